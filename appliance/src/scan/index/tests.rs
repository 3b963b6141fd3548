use std::fs;
use std::path::PathBuf;

use super::*;
use crate::fixture::git;

/// A checkout where git tracks `a/b.nix` and `a/c/d.nix`, and its index.
fn checkout() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q"]);
    fs::create_dir_all(folder.path().join("a/c")).unwrap();
    for path in ["a/b.nix", "a/c/d.nix"] {
        fs::write(folder.path().join(path), path).unwrap();
    }
    git(folder.path(), &["add", "."]);
    let index = fs::read(folder.path().join(PATH)).unwrap();
    (folder, index)
}

#[test]
fn tracked_files_are_found_by_path() {
    let (_folder, bytes) = checkout();
    let index = Index::parse(&bytes).unwrap();
    let has = |path| index.has_file(Path::new(path));
    assert!(has("a/b.nix") && has("a/c/d.nix") && !has("a") && !has("a/b"));
    let reaches = |path| index.reaches_into(Path::new(path));
    assert!(reaches("a") && reaches("a/c") && !reaches("a/b.nix") && !reaches("b"));
}

#[test]
fn an_unchanged_index_is_not_read_again() {
    let (folder, _) = checkout();
    let fleet = FleetFolder::open(folder.path()).unwrap();
    let first = Index::read(&fleet, Arc::default()).unwrap();
    let again = Index::read(&fleet, Arc::clone(&first)).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    git(folder.path(), &["rm", "-q", "--cached", "a/b.nix"]);
    let then = Index::read(&fleet, again).unwrap();
    assert!(!then.has_file(Path::new("a/b.nix")) && then.has_file(Path::new("a/c/d.nix")));
}

/// A panic would end the appliance, at every start.
#[test]
fn a_damaged_index_is_an_error_or_another_index() {
    let (folder, bytes) = checkout();
    for end in 0..bytes.len() {
        assert!(Index::parse(&bytes[..end]).is_err(), "cut at {end}");
    }
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x55;
        assert!(Index::parse(&damaged).is_err(), "damaged at {place}");
    }
    // Without a checksum, with each version, with every extension of git.
    let settings = [
        ["index.skipHash", "true"],
        ["core.untrackedCache", "true"],
        ["index.threads", "2"],
    ];
    for setting in settings {
        git(folder.path(), &[&["config"], &setting[..]].concat());
    }
    git(folder.path(), &["commit", "-q", "-m", "a"]);
    for version in ["2", "4"] {
        git(
            folder.path(),
            &[
                "update-index",
                "--index-version",
                version,
                "--force-write-index",
            ],
        );
        git(folder.path(), &["status"]);
        let bytes = fs::read(folder.path().join(PATH)).unwrap();
        assert!(bytes.ends_with(&[0; 20]), "{version}");
        Index::parse(&bytes).unwrap();
        let mut parsed = 0;
        for place in 0..bytes.len() - 20 {
            for other in [0x00, 0x7f, 0x80, 0xff, bytes[place] ^ 1] {
                let mut damaged = bytes.clone();
                damaged[place] = other;
                parsed += usize::from(Index::parse(&damaged).is_ok());
            }
        }
        assert!(parsed > 0, "without a checksum, damage isn't found");
    }
}

#[test]
fn the_kind_of_hash_is_known_by_the_checksum() {
    for (format, kind) in [("sha1", Kind::Sha1), ("sha256", Kind::Sha256)] {
        let folder = tempfile::tempdir().unwrap();
        git(
            folder.path(),
            &["init", "-q", &format!("--object-format={format}")],
        );
        fs::write(folder.path().join("x"), "").unwrap();
        git(folder.path(), &["add", "."]);
        let bytes = fs::read(folder.path().join(PATH)).unwrap();
        assert_eq!(kinds(&bytes), [kind]);
        assert!(Index::parse(&bytes).unwrap().has_file(&PathBuf::from("x")));
    }
}
