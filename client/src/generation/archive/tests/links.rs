//! Symlinks of a generation. Issue 10, line 3.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::generation::pull::{Pulled, Source};
use crate::generation::verify::{staged, verify};

/// Every path below a folder, with the text of a symlink or the content of a file.
fn listed(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            assert_eq!(metadata.modified().unwrap(), the_time(), "{name}");
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.push((name, format!("-> {}", target.display())));
            } else {
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Pulls and puts in place; gives what lies in its `config/` then.
fn put(env: &ArchiveEnv, new: &Generation, base: Option<(&Generation, Staged)>) -> Staged {
    let archive = match &base {
        Some((old, _)) => new.delta_from(old),
        None => new.bundle(),
    };
    let source = base.map_or(Source::Bundle, |(_, base)| Source::Delta(Box::new(base)));
    let id = new.manifest.generation();
    let host = new.manifest.host();
    let pulled = Pulled::unpack(
        archive.as_slice(),
        &env.state,
        host,
        id,
        source,
        &mut |_, _| {},
    );
    let verified = verify(&env.state, pulled.unwrap()).unwrap();
    crate::generation::stage::stage(&env.state, verified, &[]).unwrap()
}

fn holds(staged: &Staged, generation: &Generation) {
    let expected = generation.manifest.files().iter().filter_map(|entry| {
        let name = entry.path().as_str().strip_prefix("config/")?.to_owned();
        let content = String::from_utf8(generation.bytes(entry).to_vec()).unwrap();
        Some((
            name,
            if entry.symlink().is_some() {
                format!("-> {content}")
            } else {
                content
            },
        ))
    });
    let mut expected: Vec<_> = expected.collect();
    expected.sort();
    assert_eq!(listed(&staged.config), expected);
}

#[test]
fn a_bundle_brings_symlinks_as_they_are() {
    let env = ArchiveEnv::new();
    let generation = linked();
    let staged = put(&env, &generation, None);
    holds(&staged, &generation);
    let overlay = staged.config.join("common/overlays/default.nix");
    assert_eq!(fs::read_to_string(overlay).unwrap(), "import ./a.nix");
}

#[test]
fn a_delta_turns_anything_into_anything_else() {
    let variants: [Vec<Content>; 7] = [
        vec![],
        vec![Content::new("config/x", "a file")],
        vec![Content::new("config/x/y", "in a folder")],
        vec![Content::symlink("config/x", "flake.nix")],
        vec![Content::symlink("config/x", "sub")],
        vec![Content::symlink("config/x", "nowhere")],
        vec![Content::symlink("config/x/y", "../sub/x")],
    ];
    let generations = variants.map(|mut contents| {
        contents.push(Content::new("config/flake.nix", "{ }"));
        contents.push(Content::new("config/sub/x", "same"));
        contents.push(Content::symlink("config/sub/kept", "x"));
        generation(&contents)
    });
    for old in &generations {
        for new in &generations {
            if old.manifest.generation() == new.manifest.generation() {
                continue;
            }
            let env = ArchiveEnv::new();
            let base = put(&env, old, None);
            let staged = put(&env, new, Some((old, base)));
            holds(&staged, new);
        }
    }
}

#[test]
fn a_symlink_that_was_changed_on_the_machine_is_noticed() {
    let env = ArchiveEnv::new();
    let generation = linked();
    let put_in_place = put(&env, &generation, None);
    let config = &put_in_place.config;
    type Harm = fn(&Path) -> std::io::Result<()>;
    let harms: [(Harm, &str); 4] = [
        (
            |link| symlink("elsewhere", link),
            "leads to elsewhere, not to not/there",
        ),
        (|link| fs::write(link, "a file"), "can't read the symlink"),
        (|link| fs::create_dir(link), "can't read the symlink"),
        (|_| Ok(()), "can't read the symlink"),
    ];
    for (harm, expected) in harms {
        let link = config.join("dangling");
        fs::remove_file(&link).unwrap();
        harm(&link).unwrap();
        let mut complaint = String::new();
        let found = staged(&env.state, &put_in_place.id(), &mut |error| {
            complaint = format!("{error:#}");
        });
        assert!(found.unwrap().is_none(), "{expected}");
        assert!(complaint.contains(expected), "{complaint}");
        put(&env, &generation, None);
    }
    // A file that became a symlink to the same content isn't the file.
    fs::remove_file(config.join("pkgs/a.nix")).unwrap();
    symlink("../flake.nix", config.join("pkgs/a.nix")).unwrap();
    let found = staged(&env.state, &put_in_place.id(), &mut |_| {}).unwrap();
    assert!(found.is_none());
}

/// An archive whose manifest names these entries, whatever they are, with the id that they give.
fn hostile(entries: &[serde_json::Value]) -> (Vec<u8>, Generation) {
    let wanted = small();
    let mut manifest = serde_json::to_value(&wanted.manifest).unwrap();
    manifest["files"] = entries.to_vec().into();
    let mut archive = Archive::new();
    archive.add("manifest.json", manifest.to_string().as_bytes());
    for entry in entries {
        let path = entry["path"].as_str().unwrap();
        match entry["symlink"].as_str() {
            Some(target) if !target.is_empty() => archive.add_symlink(path, target),
            _ => archive.add(path, b"x"),
        }
    }
    (archive.finish(), wanted)
}

fn link(path: &str, target: &str) -> serde_json::Value {
    serde_json::json!({"path": path, "symlink": target})
}

fn file(path: &str) -> serde_json::Value {
    serde_json::json!({"path": path, "executable": false, "size": 1, "sha256": Digest::of("x")})
}

#[test]
fn no_symlink_that_leads_out_of_config_is_created() {
    let env = ArchiveEnv::new();
    for (entries, expected) in [
        (vec![link("config/a", "/etc/passwd")], "the absolute path"),
        (vec![link("config/a", "..")], "leads out of config/"),
        (
            vec![link("config/a/b", "../../secrets/token")],
            "leads out of config/",
        ),
        (vec![link("config/a", "")], "without a target"),
        (vec![link("config/a", "b\n")], "a control character"),
        (vec![link("secrets/a", "b")], "but secrets must be files"),
        (
            vec![link("secrets/a", "../../etc/shadow")],
            "but secrets must be files",
        ),
        // As text it stays inside; where the kernel follows p/q/s it doesn't.
        (
            vec![
                link("config/a", "p/q/s/../../secrets/key"),
                link("config/p/q/s", "../../x"),
                file("config/x"),
            ],
            "has .. after another part",
        ),
        // Nothing lies below a symlink, so nothing is written through one.
        (
            vec![
                link("config/a", "b"),
                file("config/a/x"),
                file("config/b/x"),
            ],
            "below a file",
        ),
        (
            vec![link("config/a", "."), link("config/a/b", "c")],
            "below a file",
        ),
        (
            vec![
                link("config/a", "b"),
                file("config/a-b"),
                file("config/a/x"),
            ],
            "below a file",
        ),
        (vec![file("config/a"), link("config/a", "b")], "twice"),
        (vec![link("config/a", "b"), file("config/a")], "twice"),
    ] {
        let (archive, wanted) = hostile(&entries);
        let error = env.error(&archive, &wanted);
        assert!(error.contains(expected), "{entries:?}: {error}");
    }
}

#[test]
fn an_entry_of_an_archive_is_what_its_manifest_says() {
    let env = ArchiveEnv::new();
    let wanted = generation(&[
        Content::symlink("config/a", "b"),
        Content::new("config/b", ""),
    ]);
    let says = |expected: &str, add: &dyn Fn(&mut Archive)| {
        let mut archive = Archive::new();
        let json = serde_json::to_vec(&wanted.manifest).unwrap();
        archive.add("manifest.json", &json);
        add(&mut archive);
        archive.add("config/b", b"");
        let error = env.error(&archive.finish(), &wanted);
        assert!(error.contains(expected), "{expected:?} isn't in {error:?}");
    };
    says("not a symlink", &|archive| archive.add("config/a", b"b"));
    says(
        "leads to \"../x\", and the manifest says \"b\"",
        &|archive| archive.add_symlink("config/a", "../x"),
    );
    says("leads to \"\", and", &|archive| {
        archive.add_as("config/a", 0, EntryType::Symlink, b"");
    });
    says("has a content", &|archive| {
        archive.add_as("config/a", 1, EntryType::Symlink, b"b");
    });
    says("where \"config/a\" must be", &|archive| {
        archive.add_symlink("config/b", "b")
    });
}

/// Whatever links a manifest may hold, in whatever chains, none of them is a way out of `config/`: where each leads is
/// asked of the kernel.
#[test]
fn no_chain_of_symlinks_leads_out_of_config() {
    let folders = ["", "p/", "p/q/", "r/"];
    let names = ["a", "b"];
    let targets = [
        "a",
        "b",
        "..",
        "../..",
        "../a",
        "../b",
        "p/a",
        "p/q/b",
        "../p/a/b",
        "../q/a",
        "../../r/b",
        "a/b/a",
        "a/../b",
        "p/q/a/../../secrets/token",
        ".",
        "./../a",
        "b/.",
        "../../p/q/../x",
    ];
    let mut random = 88_172_645_463_325_252_u64;
    let mut pick = |count: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % count as u64) as usize
    };
    let (mut resolved, mut refused) = (0, 0);
    for _ in 0..150 {
        let mut contents = vec![Content::new("secrets/token", "hush")];
        for folder in folders {
            for name in names {
                let path = format!("config/{folder}{name}");
                let target = targets[pick(targets.len())];
                let path_is = path.parse().unwrap();
                match bento_protocol::Symlink::new(path_is, target.to_owned()) {
                    Ok(_) => contents.push(Content::symlink(&path, target)),
                    Err(_) => {
                        refused += 1;
                        contents.push(Content::new(&path, ""));
                    }
                }
            }
        }
        let env = ArchiveEnv::new();
        let staged = put(&env, &generation(&contents), None);
        let config = fs::canonicalize(&staged.config).unwrap();
        for folder in folders {
            for name in names {
                let path = config.join(format!("{folder}{name}"));
                if let Ok(real) = fs::canonicalize(&path) {
                    resolved += 1;
                    assert!(real.starts_with(&config), "{}", real.display());
                }
            }
        }
    }
    assert!(resolved > 200 && refused > 200, "{resolved} {refused}");
}
