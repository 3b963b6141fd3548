//! Events of the fleet folder: a hint to look sooner. They are missed on some filesystems and when too many come at
//! once, so that the periodic look decides.

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

/// How soon it is noticed that another folder lies at the watched one's place.
const LOOK: Duration = Duration::from_secs(1);

/// Whatever may change what is published. Opening and reading is what the appliance itself does there.
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
/// brought to what they should be before every look at the folder: what comes after that is a hint, and what came before
/// is seen by the look.
pub(in crate::daemon) struct Watch {
    folder: PathBuf,
    /// None where the kernel gives none.
    inotify: Option<Arc<OwnedFd>>,
    watched: HashSet<i32>,
    /// Whether the log has it already that something can't be watched.
    has_told: bool,
}

impl Watch {
    /// Sends to `hints` whenever something that is watched changes, for as long as the process lives. Nothing is watched
    /// before [`Self::renew`].
    pub(in crate::daemon) fn new(folder: PathBuf, hints: Sender<()>) -> Self {
        let mut watch = Watch {
            folder,
            inotify: None,
            watched: HashSet::new(),
            has_told: false,
        };
        match inotify::init(CreateFlags::CLOEXEC) {
            Ok(inotify) => {
                let inotify = Arc::new(inotify);
                watch.inotify = Some(Arc::clone(&inotify));
                let folder = watch.folder.clone();
                let other_hints = hints.clone();
                thread::spawn(move || pass_on(&inotify, &hints));
                thread::spawn(move || follow(&folder, &other_hints));
            }
            Err(error) => watch.tell(error.into()),
        }
        watch
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
                // What is gone, or no folder any more, needs no watch; that one can't be read, the look tells.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => continue,
                Err(error) => failure = Some(error),
            }
            folders.extend(below(&folder, is_top));
        }
        for watch in self.watched.difference(&watched) {
            // That of a folder which was removed went with it.
            _ = inotify::remove_watch(&*inotify, *watch);
        }
        self.watched = watched;
        match failure {
            Some(error) => self.tell(error.into()),
            None => self.has_told = false,
        }
    }

    fn tell(&mut self, error: io::Error) {
        if !std::mem::replace(&mut self.has_told, true) {
            warn!(
                "{} can't be watched as a whole ({error}): changes are found by looking",
                self.folder.display()
            );
        }
    }
}

/// The folders in a folder that may hold something to publish, or say what may be. Of git's there are the index and its
/// lock, at the top; its objects are many.
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

/// Passes the kernel's events on.
fn pass_on(inotify: &OwnedFd, hints: &Sender<()>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(inotify, &mut buffer);
    loop {
        match events.next() {
            // It only says that a watch has ended.
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
            Ok(_) | Err(Errno::INTR) => {
                // The receiver only goes when the appliance stops.
                let _ = hints.send(());
            }
            Err(error) => {
                warn!("changes of the fleet folder are found by looking from now on: {error}");
                return;
            }
        }
    }
}

/// Says when another folder lies at the place of the fleet folder, such as a volume that is mounted again: nothing in
/// the one before tells of it.
fn follow(folder: &Path, hints: &Sender<()>) {
    let identity = || {
        let found = fs::metadata(folder);
        found.map(|found| (found.dev(), found.ino())).ok()
    };
    let mut known = identity();
    loop {
        thread::sleep(LOOK);
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

    /// How long an event may take before it is missing.
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
    fn watched(watch: &Watch) -> BTreeSet<u64> {
        let inotify = watch.inotify.as_ref().unwrap().as_raw_fd();
        let told = fs::read_to_string(format!("/proc/self/fdinfo/{inotify}")).unwrap();
        let inodes = told.lines().filter_map(|line| {
            let (_, inode) = line.strip_prefix("inotify ")?.split_once("ino:")?;
            u64::from_str_radix(inode.split(' ').next()?, 16).ok()
        });
        inodes.collect()
    }

    /// Those that it should: of all folders but those in git's.
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
    fn before_every_look_just_the_folders_that_are_there_are_watched() {
        let place = folder();
        let fleet = place.path().join("fleet");
        let (sender, _hints) = mpsc::channel();
        let mut watch = Watch::new(fleet.clone(), sender);
        let mut assert_watched = |what: &str| {
            watch.renew();
            assert_eq!(watched(&watch), wanted(&fleet), "{what}");
        };
        assert_watched("at the start");
        fs::remove_dir_all(fleet.join("hosts/a")).unwrap();
        assert_watched("without a folder from which a symlink led to another");
        fs::rename(fleet.join("utils"), fleet.join("tools")).unwrap();
        assert_watched("with another name");
        fs::rename(fleet.join("tools"), place.path().join("aside")).unwrap();
        assert_watched("without one that is elsewhere by now");
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
        watch.renew();
        assert_eq!(watched(&watch), BTreeSet::new(), "with nothing");
    }

    #[test]
    fn what_changes_in_a_shared_folder_is_a_hint_also_when_one_of_its_users_has_gone() {
        let place = folder();
        let fleet = place.path().join("fleet");
        let (sender, hints) = mpsc::channel();
        let mut watch = Watch::new(fleet.clone(), sender);
        watch.renew();
        fs::remove_dir_all(fleet.join("hosts/a")).unwrap();
        hints.recv_timeout(MISSING).unwrap();
        watch.renew();
        // Many more than there are of the removal.
        for number in 0..1000 {
            fs::write(fleet.join("utils/lib").join(number.to_string()), "").unwrap();
        }
        for _ in 0..1000 {
            hints.recv_timeout(MISSING).unwrap();
        }
    }
}
