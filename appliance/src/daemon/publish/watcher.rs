//! The watcher: inotify events of the fleet folder are hints for an earlier pass. Some filesystems miss events, and so does
//! the kernel when too many come at once; the periodic pass finds those changes.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tracing::warn;

/// The interval of checks for another folder in the watched one's place.
const REPLACEMENT_CHECK: Duration = Duration::from_secs(1);

/// The events of a change. Opening and reading isn't one: the appliance does that itself.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

/// The kernel's watches of the fleet folder and everything below it, each folder once, whatever symlinks lead to it.
///
/// A watch stays with the folder that it was set on, wherever that goes, and a new folder has none. So the watches are
/// renewed before every scan: a later change is a hint, and the scan finds an earlier one.
pub(in crate::daemon) struct Watcher {
    folder: PathBuf,
    /// None where the kernel has none left.
    inotify: Option<Arc<OwnedFd>>,
    watched: HashSet<i32>,
    /// Whether the log already has the failure.
    is_logged: bool,
}

impl Watcher {
    /// Sends to `hints` whenever something that is watched changes, for as long as the process lives. Nothing is watched
    /// before [`Self::renew`].
    pub(in crate::daemon) fn new(folder: PathBuf, hints: Sender<()>) -> Self {
        let mut watcher = Watcher {
            folder,
            inotify: None,
            watched: HashSet::new(),
            is_logged: false,
        };
        match inotify::init(CreateFlags::CLOEXEC) {
            Ok(inotify) => {
                let inotify = Arc::new(inotify);
                watcher.inotify = Some(Arc::clone(&inotify));
                let folder = watcher.folder.clone();
                let other_hints = hints.clone();
                thread::spawn(move || forward(&inotify, &hints));
                thread::spawn(move || watch_replacement(&folder, &other_hints));
            }
            Err(error) => watcher.log(error.into()),
        }
        watcher
    }

    /// Watches every folder that is there now, and no other.
    pub(in crate::daemon) fn renew(&mut self) {
        let Some(inotify) = self.inotify.clone() else {
            return;
        };
        let (mut watched, mut failure) = (HashSet::new(), None);
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let is_top = folder == self.folder;
            let follow = if is_top {
                WatchFlags::empty()
            } else {
                WatchFlags::DONT_FOLLOW
            };
            match inotify::add_watch(&*inotify, &folder, CHANGES | follow) {
                // The same folder again, by a mount.
                Ok(watch) if !watched.insert(watch) => continue,
                Ok(_) => {}
                // A folder that is gone needs no watch; one that can't be read is a problem of the scan.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => continue,
                Err(error) => failure = Some(error),
            }
            folders.extend(below(&folder, is_top));
        }
        for watch in self.watched.difference(&watched) {
            // The watch of a removed folder is gone already.
            _ = inotify::remove_watch(&*inotify, *watch);
        }
        self.watched = watched;
        match failure {
            Some(error) => self.log(error.into()),
            None => self.is_logged = false,
        }
    }

    fn log(&mut self, error: io::Error) {
        if !std::mem::replace(&mut self.is_logged, true) {
            warn!(
                "{} can't be watched as a whole ({error}): changes are found by the scan every {} s",
                self.folder.display(),
                super::RESCAN.as_secs()
            );
        }
    }
}

/// The folders in a folder that matter to a scan. Of git's folder only the top does, with the index and its lock; its
/// objects are many.
fn below(folder: &Path, is_top: bool) -> Vec<PathBuf> {
    let is_git = |name: &Path| name.ends_with(".git");
    if is_git(folder) {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let paths = folders.map(|entry| entry.path());
    paths.filter(|path| is_top || !is_git(path)).collect()
}

/// Forwards the kernel's events.
fn forward(inotify: &OwnedFd, hints: &Sender<()>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(inotify, &mut buffer);
    loop {
        match events.next() {
            // The event that a watch has ended.
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
            Ok(_) | Err(Errno::INTR) => {
                // The receiver only goes when the appliance stops.
                let _ = hints.send(());
            }
            Err(error) => {
                warn!(
                    "changes of the fleet folder are found only by the scan every {} s from now on: {error}",
                    super::RESCAN.as_secs()
                );
                return;
            }
        }
    }
}

/// Sends a hint when another folder takes the place of the fleet folder, such as a volume that is mounted again: the old
/// one has no event of it.
fn watch_replacement(folder: &Path, hints: &Sender<()>) {
    let identity = || {
        let found = fs::metadata(folder);
        found.map(|found| (found.dev(), found.ino())).ok()
    };
    let mut known = identity();
    loop {
        thread::sleep(REPLACEMENT_CHECK);
        let found = identity();
        if found != known {
            known = found;
            let _ = hints.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;

    use tempfile::TempDir;

    use super::*;

    /// The time after which an event is missing.
    const MISSING: Duration = Duration::from_secs(60);

    fn folder() -> TempDir {
        let place = tempfile::tempdir().unwrap();
        let fleet = place.path().join("fleet");
        for folder in [
            ".git/objects/00",
            "hosts/a/modules",
            "hosts/b",
            "utils/lib",
            ".bento/releases",
        ] {
            fs::create_dir_all(fleet.join(folder)).unwrap();
        }
        symlink("../../utils", fleet.join("hosts/a/utils")).unwrap();
        symlink("../../../outside", fleet.join("hosts/b/outside")).unwrap();
        place
    }

    /// The inodes that the kernel watches.
    fn watched(watcher: &Watcher) -> BTreeSet<u64> {
        let inotify = watcher.inotify.as_ref().unwrap().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{inotify}")).unwrap();
        let inodes = info.lines().filter_map(|line| {
            let (_, inode) = line.strip_prefix("inotify ")?.split_once("ino:")?;
            u64::from_str_radix(inode.split(' ').next()?, 16).ok()
        });
        inodes.collect()
    }

    /// The inodes that it should watch: of all folders but those in git's.
    fn wanted(fleet: &Path) -> BTreeSet<u64> {
        let mut wanted = BTreeSet::from([fs::metadata(fleet).unwrap().ino()]);
        for entry in fs::read_dir(fleet).unwrap() {
            let path = entry.unwrap().path();
            match fs::symlink_metadata(&path).unwrap() {
                found if found.is_dir() && path.ends_with(".git") => _ = wanted.insert(found.ino()),
                found if found.is_dir() => wanted.extend(self::wanted(&path)),
                _ => {}
            }
        }
        wanted
    }

    // Issue 10, line 14.
    #[test]
    fn a_renewed_watcher_watches_exactly_the_existing_folders() {
        let place = folder();
        let fleet = place.path().join("fleet");
        let (sender, _hints) = mpsc::channel();
        let mut watcher = Watcher::new(fleet.clone(), sender);
        let mut assert_watched = |what: &str| {
            watcher.renew();
            assert_eq!(watched(&watcher), wanted(&fleet), "{what}");
        };
        assert_watched("at the start");
        fs::remove_dir_all(fleet.join("hosts/a")).unwrap();
        assert_watched("without a folder from which a symlink led to another");
        fs::rename(fleet.join("utils"), fleet.join("tools")).unwrap();
        assert_watched("with another name");
        fs::rename(fleet.join("tools"), place.path().join("aside")).unwrap();
        assert_watched("without one that was moved out");
        fs::create_dir_all(fleet.join("tools/lib")).unwrap();
        assert_watched("with another in its place");
        symlink("../tools", fleet.join("hosts/c")).unwrap();
        assert_watched("with another symlink");
        fs::remove_file(fleet.join("hosts/c")).unwrap();
        fs::create_dir_all(fleet.join("hosts/c/below")).unwrap();
        assert_watched("with a folder in its place");
        fs::rename(&fleet, place.path().join("before")).unwrap();
        fs::create_dir_all(fleet.join("hosts/d")).unwrap();
        assert_watched("with another fleet");
        fs::remove_dir_all(&fleet).unwrap();
        watcher.renew();
        assert_eq!(watched(&watcher), BTreeSet::new(), "with nothing");
    }

    #[test]
    fn a_change_in_a_shared_folder_is_a_hint_also_after_one_of_its_users_is_gone() {
        let place = folder();
        let fleet = place.path().join("fleet");
        let (sender, hints) = mpsc::channel();
        let mut watcher = Watcher::new(fleet.clone(), sender);
        watcher.renew();
        fs::remove_dir_all(fleet.join("hosts/a")).unwrap();
        hints.recv_timeout(MISSING).unwrap();
        watcher.renew();
        // Many more than the events of the removal.
        for number in 0..1000 {
            fs::write(fleet.join("utils/lib").join(number.to_string()), "").unwrap();
        }
        for _ in 0..1000 {
            hints.recv_timeout(MISSING).unwrap();
        }
    }
}
