//! Folders for fuzz targets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder for the whole run. It isn't removed, because a fuzzer's process just ends: `tests/fuzz` sets TMPDIR, and
/// removes it.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("there is a place for temporary files")
}

/// The content of all files below a folder, by relative path; for a symlink that of [`symlink`], none for a folder.
/// Panics at anything else.
pub fn content(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder can be listed") {
            let path = entry.expect("an entry can be read").path();
            let kind = fs::symlink_metadata(&path)
                .expect("it is there")
                .file_type();
            let relative = path.strip_prefix(folder).expect("it is below").to_owned();
            if kind.is_dir() {
                found.insert(relative, None);
                folders.push(path);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).expect("a symlink can be read");
                let target = target.to_str().expect("it was made from a text");
                found.insert(relative, Some(symlink(target)));
            } else {
                assert!(
                    kind.is_file(),
                    "{relative:?} is neither a file nor a folder"
                );
                found.insert(relative, Some(fs::read(&path).expect("a file can be read")));
            }
        }
    }
    found
}

/// Representation of a symlink as content.
pub fn symlink(target: &str) -> Vec<u8> {
    format!("\0symlink to {target}").into_bytes()
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder can be listed");
    let mut names: Vec<String> = entries
        .map(|entry| {
            let name = entry.expect("an entry can be read").file_name();
            name.to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}
