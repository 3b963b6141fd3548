//! The real binary, on this machine's own OpenSSH. The binary itself stands in for bento: the image
//! doesn't care what it starts.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use bento_image::elf::Object;
use bento_tests::files;
use bento_tests::process::{self, Output};
use common::run_inside;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_bento-image");

fn bento_image() -> Command {
    let mut command = Command::new(BINARY);
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// The image of most tests, and the output of its build.
static BUILT: LazyLock<(Archive, String)> = LazyLock::new(|| build(&["--binary", BINARY]));

/// Builds an image into a folder of its own. Gives it, and what was printed.
fn build(arguments: &[&str]) -> (Archive, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bento.oci.tar");
    let mut command = bento_image();
    command.args(["build", "--output"]).arg(&file);
    let output = Output::of(command.args(arguments)).with(0);
    (Archive(fs::read(file).unwrap()), output.stdout)
}

/// The bytes of an image's archive.
struct Archive(Vec<u8>);

impl Archive {
    fn file(&self, path: &str) -> Vec<u8> {
        let mut archive = tar::Archive::new(self.0.as_slice());
        let mut entry = archive
            .entries()
            .unwrap()
            .map(Result::unwrap)
            .find(|entry| entry.path().unwrap() == Path::new(path))
            .unwrap_or_else(|| panic!("the archive has no {path}"));
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.file(path)).unwrap()
    }

    /// The blob that a descriptor names, checked against the descriptor's digest and size.
    fn blob(&self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = self.file(&format!("blobs/{}", digest.replace(':', "/")));
        assert_eq!(sha256(&bytes), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    fn manifest(&self) -> Value {
        let index = self.json("index.json");
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        serde_json::from_slice(&self.blob(&index["manifests"][0])).unwrap()
    }

    /// The entries of each layer, from the bottom up, checked against the configuration.
    fn layers(&self) -> Vec<BTreeMap<String, String>> {
        let manifest = self.manifest();
        let configuration: Value = serde_json::from_slice(&self.blob(&manifest["config"])).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        let unpacked = configuration["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(layers.len(), unpacked.len());
        layers
            .iter()
            .zip(unpacked)
            .map(|(layer, unpacked)| {
                let mut plain = Vec::new();
                GzDecoder::new(self.blob(layer).as_slice())
                    .read_to_end(&mut plain)
                    .unwrap();
                assert_eq!(&sha256(&plain), unpacked);
                entries(&plain)
            })
            .collect()
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Each entry's path, and all that its header and content say.
fn entries(archive: &[u8]) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header = entry.header();
        let text = format!(
            "{:?} {:o} {}:{} {} {:?} {}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
            entry.link_name().unwrap(),
            sha256(&bytes),
        );
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        assert_eq!(entries.insert(path, text), None, "an entry twice");
    }
    entries
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (again, _) = build(&["--binary", BINARY]);
    let (archive, said) = &*BUILT;
    assert!(archive.0 == again.0, "two builds differ");

    let digest = archive.json("index.json")["manifests"][0]["digest"].clone();
    let digest = digest.as_str().unwrap();
    assert_eq!(said.lines().count(), 1);
    let expected = format!("localhost/bento:latest {digest}, ");
    assert!(said.contains(&expected), "{said}");
    assert!(said.ends_with(" MB\n"), "{said}");
}

#[test]
fn name_and_date_are_the_ones_given() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bento.oci.tar");
    Output::of(
        bento_image()
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .args(["build", "--name", "example.org/bento:0.1"])
            .args(["--binary", BINARY, "--output"])
            .arg(&file),
    )
    .with(0);
    let archive = Archive(fs::read(file).unwrap());
    assert_eq!(
        archive.json("index.json")["manifests"][0]["annotations"],
        json!({"org.opencontainers.image.ref.name": "example.org/bento:0.1"})
    );
    for layer in archive.layers() {
        for (path, entry) in layer {
            assert!(entry.contains(" 1700000000 "), "{path}: {entry}");
        }
    }
}

#[test]
fn the_top_layer_is_bento_alone_and_the_one_below_is_all_else() {
    let layers = BUILT.0.layers();
    let [below, top] = layers.as_slice() else {
        panic!("{} layers", layers.len())
    };
    let paths: Vec<_> = top.keys().map(String::as_str).collect();
    assert_eq!(paths, ["usr", "usr/bin", "usr/bin/bento"]);
    let own = sha256(&fs::read(BINARY).unwrap());
    assert_eq!(
        top["usr/bin/bento"],
        format!("Regular 755 0:0 1 None {own}")
    );
    assert!(!below.contains_key("usr/bin/bento"));
    let nothing = sha256(b"");
    for (folder, mode) in [("run", "755"), ("state", "755"), ("tmp", "1777")] {
        assert_eq!(
            below[folder],
            format!("Directory {mode} 0:0 1 None {nothing}")
        );
        let inside = format!("{folder}/");
        assert!(!below.keys().any(|path| path.starts_with(&inside)));
    }
    assert!(below["etc/passwd"].contains("Some(\"/run/bento/passwd\")"));
}

/// A distroless image: the only things to execute are these.
#[test]
fn nothing_can_be_executed_but_openssh_bento_and_their_loader() {
    let layers = BUILT.0.layers();
    let executables: BTreeSet<_> = layers
        .iter()
        .flatten()
        .filter(|(_, entry)| entry.starts_with("Regular 755"))
        .map(|(path, _)| Path::new(path).file_name().unwrap().to_str().unwrap())
        .filter(|name| !name.contains(".so"))
        .collect();
    let programs = BTreeSet::from(["bento", "ssh-keygen", "sshd"]);
    let parts_of_sshd = BTreeSet::from(["sshd-auth", "sshd-session"]);
    assert!(executables.is_superset(&programs), "{executables:?}");
    let others: BTreeSet<_> = executables.difference(&programs).copied().collect();
    assert!(others.is_subset(&parts_of_sshd), "{others:?}");
}

#[test]
fn every_program_finds_all_its_libraries_inside_the_tree() {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("rootfs");
    Output::of(
        bento_image()
            .args(["rootfs", "--binary", BINARY, "--output"])
            .arg(&tree),
    )
    .with(0);
    for program in ["/usr/bin/bento", "/usr/sbin/sshd", "/usr/bin/ssh-keygen"] {
        let object = Object::read(&tree.join(&program[1..])).unwrap();
        let loader = object.interpreter.unwrap();
        let listed = run_inside(
            &tree,
            [loader.as_os_str(), "--list".as_ref(), program.as_ref()],
        );
        for library in object.needed {
            assert!(listed.contains(&library), "{listed}");
        }
    }
    let version = run_inside(&tree, ["/usr/bin/bento", "--version"]);
    assert_eq!(
        version,
        concat!("bento-image ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn a_prepared_tree_gives_the_same_files_in_one_layer() {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("rootfs");
    Output::of(
        bento_image()
            .args(["rootfs", "--binary", BINARY, "--output"])
            .arg(&tree),
    )
    .with(0);
    // As a Nix store would have it: nothing but "executable" may count.
    for path in ["tmp", "usr/sbin/sshd"] {
        let path = tree.join(path);
        let mode = fs::metadata(&path).unwrap().mode();
        let read_only = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o555);
        fs::set_permissions(&path, read_only).unwrap();
    }
    let (prepared, _) = build(&["--rootfs", tree.to_str().unwrap()]);
    let [all] = prepared.layers().try_into().unwrap();
    let merged: BTreeMap<_, _> = BUILT.0.layers().into_iter().flatten().collect();
    assert_eq!(all, merged);
}

#[test]
fn a_build_that_dies_while_it_writes_leaves_the_old_image() {
    let folder = TempDir::new().unwrap();
    let old = folder.path().join("bento.oci.tar");
    fs::write(&old, "old").unwrap();
    // The kernel kills it at the first byte past this size, which is less than an image has.
    let output = Command::new("prlimit")
        .args(["--fsize=1000000", "--core=0", BINARY])
        .args(["build", "--binary", BINARY, "--output"])
        .arg(&old)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(fs::read(&old).unwrap(), b"old");
}

#[test]
fn a_build_that_fails_says_why_and_leaves_the_old_image() {
    let folder = TempDir::new().unwrap();
    let old = folder.path().join("bento.oci.tar");
    fs::write(&old, "old").unwrap();
    let script = folder.path().join("bento");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let missing = folder.path().join("missing");
    let cases: [(&Path, &str); 2] = [
        (
            &missing,
            "missing: cargo build --release -p bento-appliance",
        ),
        (&script, "bento isn't an ELF program"),
    ];
    for (binary, expected) in cases {
        let mut command = bento_image();
        command.args(["build", "--binary"]).arg(binary);
        Output::of(command.arg("--output").arg(&old))
            .with(1)
            .complaining(expected);
        assert_eq!(fs::read(&old).unwrap(), b"old");
    }
    let names = files::names(folder.path()).unwrap();
    assert_eq!(names, ["bento", "bento.oci.tar"]);
}

// Issue 10, line 36.
#[test]
fn nobody_has_to_read_what_is_said() {
    let folder = TempDir::new().unwrap();
    let image = folder.path().join("bento.oci.tar");
    let tree = folder.path().join("tree");
    for (command, output, code) in [
        ("build", &image, 0),
        ("rootfs", &tree, 0),
        ("rootfs", &tree, 1),
    ] {
        let mut bento_image = bento_image();
        bento_image
            .args([command, "--binary", BINARY, "--output"])
            .arg(output);
        let ended = process::run_unread(&mut bento_image);
        assert_eq!(ended.unwrap().code(), Some(code), "{command}");
        assert!(output.exists());
    }
}
