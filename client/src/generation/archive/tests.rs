use std::fs;
use std::os::unix::fs::PermissionsExt;

use bento_protocol::{Delta, Policy, limits};
use flate2::Compression;
use flate2::read::GzEncoder;
use tar::EntryType;

use super::*;
use crate::publisher::{Archive, Content, Generation};
use crate::state::State;

pub(crate) struct ArchiveEnv {
    folder: tempfile::TempDir,
    pub(crate) state: State,
}

impl ArchiveEnv {
    pub(crate) fn new() -> Self {
        // In memory where that can be: each generation that is put in place waits for a disk.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap();
        let state = State::new(folder.path()).unwrap();
        state.prepare().unwrap();
        ArchiveEnv { folder, state }
    }

    fn unpack(
        &self,
        archive: &[u8],
        wanted: &Generation,
        base: Option<&Staged>,
    ) -> Result<(Head, Partial), String> {
        let id = wanted.manifest.generation();
        let wanted = Wanted {
            host: wanted.manifest.host(),
            generation: id,
            base,
        };
        let partial = Partial::new(&self.state, &id).unwrap();
        let head = unpack(archive, &wanted, &partial, &mut |_, _| {});
        Ok((head.map_err(|error| error.to_string())?, partial))
    }

    /// Puts a generation in place.
    pub(crate) fn stage(&self, generation: &Generation) -> Staged {
        let (head, partial) = self.unpack(&generation.bundle(), generation, None).unwrap();
        partial.put_in_place(&self.state, &head).unwrap();
        let id = generation.manifest.generation();
        crate::generation::staged::find(&self.state, &id)
            .unwrap()
            .unwrap()
    }

    fn error(&self, archive: &[u8], wanted: &Generation) -> String {
        let error = self.unpack(archive, wanted, None).map(|_| ()).unwrap_err();
        assert!(
            !self
                .state
                .generation(&wanted.manifest.generation())
                .exists()
        );
        for folder in ["generations", "secrets.d"] {
            let left = fs::read_dir(self.folder.path().join(folder))
                .unwrap()
                .count();
            assert_eq!(left, 0, "something was left in {folder}");
        }
        error
    }
}

/// Whether what was unpacked is the generation, byte for byte.
fn holds(partial: &Partial, generation: &Generation) -> bool {
    let mut files = generation.manifest.files().iter();
    files.all(|entry| {
        let path = partial.path(entry.path());
        match entry.symlink() {
            Some(link) => fs::read_link(path).is_ok_and(|to| to.as_os_str() == link.target()),
            None => fs::read(path).unwrap() == generation.bytes(entry),
        }
    })
}

pub(crate) fn generation(contents: &[Content]) -> Generation {
    Generation::new(
        &"kikimora".parse().unwrap(),
        Policy::default(),
        contents.to_vec(),
    )
}

pub(crate) fn small() -> Generation {
    generation(&[
        Content::new("config/flake.nix", "{ outputs = _: { }; }"),
        Content::executable("config/sub/run.sh", "#!/bin/sh\n"),
        Content::new("secrets/token", "hush"),
    ])
}

/// With symlinks to a file, to a folder, to nothing, and to the folder in which they lie.
fn linked() -> Generation {
    generation(&[
        Content::symlink(
            "config/common/overlays/default.nix",
            "../../pkgs/default.nix",
        ),
        Content::symlink("config/common/pkgs", "../pkgs"),
        Content::symlink("config/dangling", "not/there"),
        Content::new("config/flake.nix", "{ outputs = _: { }; }"),
        Content::new("config/pkgs/default.nix", "import ./a.nix"),
        Content::new("config/pkgs/a.nix", "{ }"),
        Content::symlink("config/pkgs/self", "."),
        Content::new("secrets/token", "hush"),
    ])
}

fn with(change: impl FnOnce(&mut Archive, &Generation)) -> Vec<u8> {
    let generation = small();
    let mut archive = Archive::new();
    archive.add(
        "manifest.json",
        &serde_json::to_vec(&generation.manifest).unwrap(),
    );
    change(&mut archive, &generation);
    archive.finish()
}

fn add_files(archive: &mut Archive, generation: &Generation, count: usize) {
    for file in &generation.manifest.files()[..count] {
        archive.add_entry(file, generation.bytes(file));
    }
}

fn compress(plain: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    GzEncoder::new(plain, Compression::fast())
        .read_to_end(&mut archive)
        .unwrap();
    archive
}

#[test]
fn a_bundle_becomes_a_generation_with_normal_permissions_and_times() {
    let env = ArchiveEnv::new();
    let long = format!("config/{}/end", "a".repeat(150));
    let generation = generation(&[
        Content::new("config/flake.nix", "{ }"),
        Content::new("config/big", vec![7; 300_000]),
        Content::new("config/empty", ""),
        Content::new(&long, "far down"),
        Content::executable("config/sub/run.sh", "#!/bin/sh\n"),
        Content::new("secrets/a/token", "hush"),
    ]);
    let (head, partial) = env.unpack(&generation.bundle(), &generation, None).unwrap();
    assert!(holds(&partial, &generation));
    partial.put_in_place(&env.state, &head).unwrap();

    let id = generation.manifest.generation();
    let place = env.state.generation(&id);
    let attributes = |path: &std::path::Path| {
        let metadata = fs::metadata(path).unwrap();
        (
            metadata.permissions().mode() & 0o7777,
            metadata.modified().unwrap() == the_time(),
        )
    };
    for (path, mode) in [
        ("", 0o755),
        ("config", 0o755),
        ("config/sub", 0o755),
        ("config/sub/run.sh", 0o755),
        ("config/flake.nix", 0o644),
        ("head.json", 0o644),
        ("files", 0o644),
    ] {
        assert_eq!(attributes(&place.join(path)), (mode, true), "{path:?}");
    }
    assert_eq!(fs::read_dir(&place).unwrap().count(), 3);
    let secrets = env.state.secrets_of(&id);
    assert_eq!(attributes(&secrets.join("a/token")), (0o600, true));
    assert_eq!(attributes(&secrets.join("a")), (0o700, true));
    assert_eq!(attributes(&secrets).0, 0o700);
}

#[test]
fn no_byte_can_be_changed_without_notice() {
    let env = ArchiveEnv::new();
    let mut generation = small();
    no_byte_of(&env, &generation);
    // Issue 10, line 3.
    generation = linked();
    no_byte_of(&env, &generation);
}

fn no_byte_of(env: &ArchiveEnv, generation: &Generation) {
    let mut plain = Vec::new();
    GzDecoder::new(generation.bundle().as_slice())
        .read_to_end(&mut plain)
        .unwrap();
    let mut refused = 0;
    for index in 0..plain.len() {
        let mut tampered = plain.clone();
        tampered[index] ^= 0x21;
        match env.unpack(&compress(&tampered), generation, None) {
            // Padding means nothing, and so what comes of it is the same.
            Ok((_, partial)) => {
                assert!(holds(&partial, generation), "byte {index} changed a file")
            }
            Err(_) => refused += 1,
        }
    }
    let contents: usize = generation
        .manifest
        .files()
        .iter()
        .map(|file| file.size() as usize)
        .sum();
    assert!(
        refused > contents + 4 * 400,
        "only {refused} changes were noticed"
    );
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused() {
    let env = ArchiveEnv::new();
    let generation = small();
    let bundle = generation.bundle();
    for length in 0..bundle.len() {
        env.error(&bundle[..length], &generation);
    }
}

#[test]
fn nothing_but_the_files_of_the_manifest_passes() {
    let env = ArchiveEnv::new();
    let generation = small();
    let says = |archive: Vec<u8>, expected: &str| {
        let error = env.error(&archive, &generation);
        assert!(error.contains(expected), "{expected:?} isn't in {error:?}");
    };
    says(
        with(|archive, generation| add_files(archive, generation, 2)),
        "where \"secrets/token\" must follow",
    );
    says(
        with(|archive, generation| {
            add_files(archive, generation, 3);
            archive.add("secrets/zzz", b"more");
        }),
        "\"secrets/zzz\", which the manifest doesn't list",
    );
    says(
        with(|archive, generation| {
            add_files(archive, generation, 1);
            archive.add("secrets/token", b"hush");
        }),
        "is \"secrets/token\", where \"config/sub/run.sh\" must be",
    );
    says(
        with(|archive, _| archive.add("config/flake.nix", b"{ }")),
        "has 3 bytes, and the manifest says 21",
    );
    says(
        with(|archive, _| {
            archive.add("config/flake.nix", b"{ outputs = _: { x}; }"[..21].as_ref())
        }),
        "has the digest",
    );
    says(
        with(|archive, _| archive.add("config/../../etc/passwd", b"x")),
        "where \"config/flake.nix\" must be",
    );
    says(
        with(|archive, _| archive.add("/config/flake.nix", b"x")),
        "where \"config/flake.nix\" must be",
    );
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Fifo,
        EntryType::Char,
    ] {
        let archive = with(|archive, _| archive.add_as("config/flake.nix", 0, kind, b""));
        says(archive, "not a regular file");
    }
    says(b"not an archive".to_vec(), "can't be read");
    says(
        Archive::new().finish(),
        "where \"manifest.json\" must follow",
    );
}

#[test]
fn an_archive_for_somebody_or_something_else_is_refused() {
    let env = ArchiveEnv::new();
    let wanted = small();
    let contents = [Content::new("config/flake.nix", "{ outputs = _: { }; }")];
    let other_machine = Generation::new(
        &"baba".parse().unwrap(),
        Policy::default(),
        contents.to_vec(),
    );
    let error = env.error(&other_machine.bundle(), &wanted);
    assert!(
        error.contains("for the machine baba, and this one is kikimora"),
        "{error}"
    );
    let error = env.error(&generation(&contents).bundle(), &wanted);
    assert!(error.contains("was polled"), "{error}");
    // The id in the document isn't believed.
    let mut archive = Archive::new();
    let json = serde_json::to_string(&wanted.manifest).unwrap();
    archive.add(
        "manifest.json",
        json.replacen("\"executable\":false", "\"executable\":true", 1)
            .as_bytes(),
    );
    let error = env.error(&archive.finish(), &wanted);
    assert!(error.contains("what it lists is generation"), "{error}");
}

#[test]
fn nothing_makes_the_reader_swallow_more_than_it_should() {
    let env = ArchiveEnv::new();
    let generation = small();
    let mut huge = Archive::new();
    huge.add_as(
        "manifest.json",
        limits::MANIFEST_BYTES + 1,
        EntryType::Regular,
        b"{",
    );
    let error = env.error(&huge.finish(), &generation);
    assert!(error.contains("more than the"), "{error}");

    for (old, new) in [
        (
            "\"policy\":{}",
            format!("\"policy\":{{\"a\":\"{}\"}}", "x".repeat(1 << 20)),
        ),
        (
            "\"policy\":{}",
            format!("\"policy\":{{}},\"b\":{}", "[".repeat(1 << 20)),
        ),
        ("config/flake.nix", "x".repeat(1 << 20)),
        ("}]}", format!("}}]}}{}", " ".repeat(1 << 20))),
    ] {
        let json = serde_json::to_string(&generation.manifest).unwrap();
        let mut long = Archive::new();
        long.add("manifest.json", json.replacen(old, &new, 1).as_bytes());
        let error = env.error(&long.finish(), &generation);
        assert!(error.contains("more than the manifest allows"), "{error}");
    }

    let mut long_name = Archive::new();
    long_name.add_as(
        "././@LongLink",
        1 << 20,
        EntryType::GNULongName,
        &vec![b'a'; 1 << 20],
    );
    let error = env.error(&long_name.finish(), &generation);
    assert!(error.contains("can't be read"), "{error}");

    let mut plain = Vec::new();
    GzDecoder::new(generation.bundle().as_slice())
        .read_to_end(&mut plain)
        .unwrap();
    plain.resize(plain.len() + (1 << 20), 0);
    let error = env.error(&compress(&plain), &generation);
    assert!(error.contains("its end can't be read"), "{error}");
}

#[test]
fn a_delta_brings_what_changed_and_names_what_is_missing() {
    let env = ArchiveEnv::new();
    let old = small();
    let new = generation(&[
        Content::new("config/flake.nix", "{ outputs = _: { new = 1; }; }"),
        Content::new("config/sub/other", "new"),
        Content::new("secrets/token", "hush"),
    ]);
    let staged = env.stage(&old);
    let (head, partial) = env
        .unpack(&new.delta_from(&old), &new, Some(&staged))
        .unwrap();
    let carried = list::read::<ManifestEntry>(&partial.carried()).unwrap();
    let names = |files: &mut dyn Iterator<Item = anyhow::Result<ManifestEntry>>| {
        files
            .map(|file| file.unwrap().path().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&mut { carried }),
        ["config/flake.nix", "config/sub/other"]
    );
    assert_eq!(names(&mut partial.missing().unwrap()), ["secrets/token"]);
    assert_eq!(head.generation, new.manifest.generation());
    let files = list::read::<ManifestEntry>(&partial.files()).unwrap();
    assert_eq!(
        files.map(Result::unwrap).collect::<Vec<_>>(),
        new.manifest.files()
    );

    let elsewhere = env.stage(&generation(&[]));
    let refused = |archive: &[u8], base, expected: &str| {
        let error = env
            .unpack(archive, &new, Some(base))
            .map(|_| ())
            .unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    refused(&new.delta_from(&old), &elsewhere, "isn't what is here");
    refused(&new.delta_from(&new), &staged, "isn't what is here");
    refused(&new.bundle(), &staged, "where \"delta.json\" must be");
}

#[test]
fn a_delta_cannot_bring_a_file_twice() {
    let env = ArchiveEnv::new();
    let old = generation(&[]);
    let new = generation(&[Content::new("config/a", "1")]);
    let mut delta = Delta::between(&old.manifest, &new.manifest);
    delta.changed.push(delta.changed[0].clone());
    let mut archive = Archive::new();
    archive.add("delta.json", &serde_json::to_vec(&delta).unwrap());
    let error = env
        .unpack(&archive.finish(), &new, Some(&env.stage(&old)))
        .map(|_| ())
        .unwrap_err();
    assert!(error.contains("out of order, or twice"), "{error}");
}

#[test]
fn a_delta_that_leads_elsewhere_is_refused() {
    let env = ArchiveEnv::new();
    let old = small();
    let new = generation(&[
        Content::new("config/flake.nix", "{ new = 1; }"),
        Content::new("secrets/token", "hush"),
    ]);
    let staged = env.stage(&old);
    fn change(delta: &mut Delta, change: impl FnOnce(&mut File)) {
        let mut file = delta.changed[0].file().unwrap().clone();
        change(&mut file);
        delta.changed[0] = file.into();
    }
    type Tamper = fn(&mut Delta);
    let tamper: [(Tamper, &str); 5] = [
        (
            |delta| change(delta, |file| file.executable = true),
            "what it lists is",
        ),
        (|delta| delta.removed.clear(), "what it lists is"),
        (
            |delta| delta.removed = vec!["config/none".parse().unwrap()],
            "removes config/none, which isn't there",
        ),
        (
            |delta| {
                change(delta, |file| {
                    file.path = "config/sub/run.sh/x".parse().unwrap()
                })
            },
            "what it lists is",
        ),
        (
            |delta| {
                delta.removed.clear();
                change(delta, |file| {
                    file.path = "config/sub/run.sh/x".parse().unwrap()
                });
            },
            "config/sub/run.sh/x is listed below a file",
        ),
    ];
    for (tamper, expected) in tamper {
        let mut delta = Delta::between(&old.manifest, &new.manifest);
        tamper(&mut delta);
        let mut archive = Archive::new();
        archive.add("delta.json", &serde_json::to_vec(&delta).unwrap());
        add_files(&mut archive, &new, 1);
        let error = env
            .unpack(&archive.finish(), &new, Some(&staged))
            .map(|_| ())
            .unwrap_err();
        assert!(error.contains(expected), "{expected:?} isn't in {error:?}");
    }
}

/// The id of a manifest is known at its end: what it lists isn't believed before that.
#[test]
fn nothing_is_written_for_a_manifest_that_lies() {
    let env = ArchiveEnv::new();
    let wanted = small();
    let json = serde_json::to_string(&wanted.manifest).unwrap();
    let lie = json.replacen("\"executable\":true", "\"executable\":false", 1);
    assert_ne!(lie, json);
    let mut archive = Archive::new();
    archive.add("manifest.json", lie.as_bytes());
    add_files(&mut archive, &wanted, 3);
    let id = wanted.manifest.generation();
    let partial = Partial::new(&env.state, &id).unwrap();
    let expected = Wanted {
        host: wanted.manifest.host(),
        generation: id,
        base: None,
    };
    let archive = archive.finish();
    assert!(unpack(archive.as_slice(), &expected, &partial, &mut |_, _| {}).is_err());
    for file in wanted.manifest.files() {
        assert!(!partial.path(file.path()).exists(), "{file}");
    }
}

mod links;
