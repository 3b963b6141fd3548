//! Warnings about untracked files: they are published, but a flake that is built in the checkout doesn't see them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::group::Group;
use crate::problem::Problem;
use crate::text::list::first_few;

/// The most files of a folder that are listed.
const NAMED: usize = 3;

/// The untracked files that machines get; none without a checkout or without git.
pub(super) fn untracked(folder: &Path, groups: &[Group<'_>]) -> Vec<Problem> {
    let tracked = match tracked(folder) {
        Ok(Some(tracked)) => tracked,
        Ok(None) => return Vec::new(),
        Err(why) => {
            let what = format!("git can't list tracked files: {why}");
            return vec![Problem::new("", what, "run `git status` there for details")];
        }
    };
    let mut folders: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for group in groups {
        for file in group.files() {
            let written = group.source.as_path().join(file.path.rest());
            let written = written.strip_prefix(".").unwrap_or(&written);
            let missing = match tracked.contains(&file.real) {
                false => Some(file.real.as_path()),
                true if written == file.real => None,
                true => untracked_link(folder, written, &tracked),
            };
            if let Some((parent, name)) =
                missing.and_then(|path| Some((path.parent()?, path.file_name()?)))
            {
                let names = folders.entry(parent.to_owned()).or_default();
                names.insert(name.to_string_lossy().into_owned());
            }
        }
    }
    folders
        .iter()
        .map(|(folder, names)| warning(folder, names))
        .collect()
}

/// The first symlink on the way to a file, if git tracks none of them.
fn untracked_link<'p>(
    folder: &Path,
    written: &'p Path,
    tracked: &HashSet<PathBuf>,
) -> Option<&'p Path> {
    let mut on_the_way: Vec<&Path> = written.ancestors().collect();
    on_the_way.reverse();
    if on_the_way.iter().any(|path| tracked.contains(*path)) {
        return None;
    }
    on_the_way
        .into_iter()
        .find(|path| folder.join(path).is_symlink())
}

fn warning(folder: &Path, names: &BTreeSet<String>) -> Problem {
    let (place, what) = match names.first() {
        Some(only) if names.len() == 1 => (folder.join(only), "isn't tracked by git".to_owned()),
        _ => {
            let few = first_few(names.iter(), NAMED);
            (folder.to_owned(), format!("git doesn't track {few}"))
        }
    };
    let what =
        format!("{what}: machines get it, but a flake that is built in this checkout doesn't");
    Problem::new(
        place.to_string_lossy(),
        what,
        "run `git add` on it, or add it to .gitignore",
    )
}

/// Every file that git tracks, relative to the fleet folder; none without a checkout or git.
pub(super) fn tracked(folder: &Path) -> Result<Option<HashSet<PathBuf>>, String> {
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let mut folders = folder.ancestors();
    if !folders.any(|folder| folder.join(".git").exists()) {
        return Ok(None);
    }
    listed(&folder, &["--recurse-submodules"])
}

/// The output of `git ls-files` in a checkout; none without git.
pub(super) fn listed(folder: &Path, how: &[&str]) -> Result<Option<HashSet<PathBuf>>, String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z"]).args(how);
    git.current_dir(folder).stdin(Stdio::null());
    // In a hook, these variables name another checkout and index; this one is found by its path.
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(b"GIT_") {
            git.env_remove(name);
        }
    }
    let output = match git.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or_default();
        return Err(line.to_owned());
    }
    let paths = output.stdout.split(|byte| *byte == 0);
    let paths = paths.filter(|path| !path.is_empty());
    Ok(Some(
        paths
            .map(|path| PathBuf::from(OsStr::from_bytes(path)))
            .collect(),
    ))
}
