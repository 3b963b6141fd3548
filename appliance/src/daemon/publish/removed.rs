//! Removed machines: their reports are kept for as long as they can come back.

use std::fs;
use std::io;
use std::path::Path;

use bento_protocol::HostName;

use crate::store::atomic_file::remove_tree;
use crate::store::paths::{HostState, State};

/// Sets aside the reports of a machine without an account, and removes everything else of it.
///
/// Its folder is moved whole, in one step: if an account comes back while the folder is still in its place, its
/// publications are complete.
pub(super) fn set_aside(state: &State, name: &HostName) -> io::Result<()> {
    let aside = state.removed_host(name);
    remove_tree(aside.root())?;
    fs::rename(state.host(name).root(), aside.root())?;
    strip(aside.root())
}

/// Brings back the reports of a machine, unless its folder is still in its place. Creates the folder if there is none.
pub(super) fn bring_back(state: &State, name: &HostName) -> io::Result<()> {
    let (aside, place) = (state.removed_host(name), state.host(name));
    if !place.root().exists() {
        if aside.root().exists() {
            strip(aside.root())?;
            return fs::rename(aside.root(), place.root());
        }
        fs::create_dir(place.root())?;
    }
    Ok(())
}

/// Removes the reports of an earlier machine of this name.
pub(super) fn forget(state: &State, name: &HostName) -> io::Result<()> {
    remove_tree(state.removed_host(name).root())
}

/// Removes what is kept of machines that can no longer come back, and the leftovers of a crash.
pub(super) fn clear(state: &State, is_kept: impl Fn(&HostName) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(state.removed())? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.parse().ok());
        if name.is_some_and(|name| is_kept(&name)) {
            strip(&entry.path())?;
        } else {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes everything that doesn't outlast a removal, secrets included.
fn strip(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !HostState::OUTLAST.iter().any(|kept| name == *kept) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A state with the folder of a machine of the fleet.
    fn state() -> (tempfile::TempDir, State, HostName) {
        let folder = tempfile::tempdir().unwrap();
        let (state, name) = (State::new(folder.path()), "kikimora".parse().unwrap());
        fs::create_dir(state.removed()).unwrap();
        let host = state.host(&name);
        for folder in [
            "publications/1/chroot/secrets",
            "manifests",
            "kept/1",
            "reports",
        ] {
            fs::create_dir_all(host.root().join(folder)).unwrap();
        }
        for file in [
            "publications/1/chroot/secrets/key",
            "reports/1.json",
            "summary.json",
            "summary.json.new",
            "seen",
        ] {
            fs::write(host.root().join(file), file).unwrap();
        }
        symlink("publications/1/chroot", host.current()).unwrap();
        (folder, state, name)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    const LEFT: [&str; 3] = ["reports", "seen", "summary.json"];

    // Issue 10, line 13.
    #[test]
    fn reports_are_set_aside_and_brought_back_and_publications_are_not() {
        let (_folder, state, name) = state();
        set_aside(&state, &name).unwrap();
        assert_eq!(names(state.removed_host(&name).root()), LEFT);
        assert_eq!(names(&state.hosts()), [""; 0]);
        bring_back(&state, &name).unwrap();
        assert_eq!(names(state.host(&name).root()), LEFT);
        assert_eq!(names(&state.host(&name).reports()), ["1.json"]);
        assert_eq!(names(&state.removed()), [""; 0]);
    }

    #[test]
    fn an_interrupted_removal_is_completed_or_undone() {
        // Before it began: everything is still in its place.
        let (_folder, whole, name) = state();
        let all = names(whole.host(&name).root());
        bring_back(&whole, &name).unwrap();
        assert_eq!(names(whole.host(&name).root()), all);
        assert!(whole.host(&name).current().join("secrets/key").exists());
        // In the middle of it: half a publication is no publication.
        let moved = || {
            let (folder, state, name) = state();
            fs::rename(state.host(&name).root(), state.removed_host(&name).root()).unwrap();
            (folder, state, name)
        };
        let (_folder, half, name) = moved();
        bring_back(&half, &name).unwrap();
        assert_eq!(names(half.host(&name).root()), LEFT);
        let (_folder, half, name) = moved();
        clear(&half, |_| true).unwrap();
        assert_eq!(names(half.removed_host(&name).root()), LEFT);
        clear(&half, |_| false).unwrap();
        assert_eq!(names(&half.removed()), [""; 0]);
    }
}
