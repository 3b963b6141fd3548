//! Changes of what status is read from, as the kernel tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bento_protocol::HostName;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::store::paths::{Runtime, State};

/// What has to be read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Which machines there are.
    pub fleet: bool,
    /// What is wrong.
    pub problems: bool,
    /// These machines.
    pub machines: BTreeSet<HostName>,
    /// Everything: more changed than the kernel remembered.
    pub all: bool,
}

/// Watches the folders in which something changes that status tells: each by itself, because below them there are
/// publications, in which much more changes.
#[derive(Debug)]
pub struct Changes {
    queue: OwnedFd,
    state: State,
    runtime: Runtime,
    folders: BTreeMap<i32, Folder>,
    /// Whether there are folders that can't be watched.
    is_blind: bool,
}

/// A folder that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Folder {
    State,
    Hosts,
    Host(HostName),
    Runtime,
}

/// What comes to be, gets another name or another time, or goes; not what is read, which is what whoever asks does
/// here. A file is written aside, and complete when it gets its name.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ONLYDIR);

impl Changes {
    /// Watches a state, with the folders of these machines.
    ///
    /// # Errors
    /// When the kernel has no room for another watcher.
    pub fn of<'a>(
        state: &State,
        runtime: &Runtime,
        names: impl Iterator<Item = &'a HostName>,
    ) -> io::Result<Self> {
        let mut changes = Changes {
            queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            state: state.clone(),
            runtime: runtime.clone(),
            folders: BTreeMap::new(),
            is_blind: false,
        };
        changes.watch_again(names);
        Ok(changes)
    }

    /// Watches what is there by now, and isn't watched yet.
    pub fn watch_again<'a>(&mut self, names: impl Iterator<Item = &'a HostName>) {
        self.is_blind = false;
        let (state, hosts) = (self.state.root().to_owned(), self.state.hosts());
        let runtime = self.runtime.root().to_owned();
        self.watch(&state, Folder::State);
        self.watch(&hosts, Folder::Hosts);
        self.watch(&runtime, Folder::Runtime);
        for name in names {
            self.watch_machine(name);
        }
    }

    /// Whether something can't be watched, such as a folder that isn't there, so that one has to look from time to time.
    pub fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Takes what the kernel has told since the last time, if anything.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn take(&mut self) -> io::Result<Changed> {
        let mut changed = Changed::default();
        for (watch, flags, name) in self.events()? {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                changed.all = true;
            }
            if flags.contains(ReadFlags::IGNORED) {
                // The folder is gone; one that comes in its place is told of by the folder above.
                if self.folders.remove(&watch) == Some(Folder::Runtime) {
                    self.is_blind = true;
                    changed.problems = true;
                }
                continue;
            }
            match self.folders.get(&watch).cloned() {
                Some(Folder::State) => match name.as_deref() {
                    Some("fleet.json" | "accounts.json") => changed.fleet = true,
                    Some("hosts") => changed.all = true,
                    _ => {}
                },
                Some(Folder::Hosts) => {
                    if let Some(name) = name.and_then(|name| name.parse::<HostName>().ok()) {
                        self.watch_machine(&name);
                        changed.machines.insert(name);
                    }
                }
                Some(Folder::Host(host)) => {
                    if matches!(name.as_deref(), Some("current" | "summary.json" | "seen")) {
                        changed.machines.insert(host);
                    }
                }
                Some(Folder::Runtime) => {
                    changed.problems |= name.as_deref() == Some("problems.json");
                }
                None => {}
            }
        }
        Ok(changed)
    }

    fn events(&self) -> io::Result<Vec<(i32, ReadFlags, Option<String>)>> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into());
                    events.push((event.wd(), event.events(), name));
                }
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn watch_machine(&mut self, name: &HostName) {
        let folder = self.state.host(name).root().to_owned();
        self.watch(&folder, Folder::Host(name.clone()));
    }

    fn watch(&mut self, path: &Path, folder: Folder) {
        match inotify::add_watch(&self.queue, path, EVENTS) {
            Ok(watch) => {
                self.folders.insert(watch, folder);
            }
            // A machine whose folder isn't there yet is told of by the folder above.
            Err(Errno::NOENT) if matches!(folder, Folder::Host(_)) => {}
            Err(_) => self.is_blind = true,
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl Changed {
    /// Whether nothing has to be read again.
    pub fn is_nothing(&self) -> bool {
        *self == Changed::default()
    }

    /// Adds what changed later.
    pub fn add(&mut self, later: Changed) {
        self.fleet |= later.fleet;
        self.problems |= later.problems;
        self.all |= later.all;
        self.machines.extend(later.machines);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::atomic_file;

    #[test]
    fn what_changed_is_told_by_machine_and_what_status_does_not_read_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("state"));
        let runtime = Runtime::new(folder.path().join("run"));
        let names: Vec<HostName> = ["a", "b"].map(|name| name.parse().unwrap()).into();
        let [a, b] = [&names[0], &names[1]].map(|name| state.host(name));
        fs::create_dir_all(a.reports()).unwrap();
        fs::create_dir(runtime.root()).unwrap();
        let mut changes = Changes::of(&state, &runtime, names.iter()).unwrap();
        assert!(!changes.is_blind());
        let mut changed = |what: &dyn Fn()| {
            what();
            changes.take().unwrap()
        };
        let machine = |name: &HostName| Changed {
            machines: BTreeSet::from([name.clone()]),
            ..Changed::default()
        };
        assert_eq!(
            changed(&|| atomic_file::write(&a.summary(), b"1").unwrap()),
            machine(&names[0])
        );
        assert_eq!(
            changed(&|| fs::write(a.seen(), "").unwrap()),
            machine(&names[0])
        );
        let publish = || std::os::unix::fs::symlink("x", a.current()).unwrap();
        assert_eq!(changed(&publish), machine(&names[0]));
        assert_eq!(
            changed(&|| fs::create_dir(b.root()).unwrap()),
            machine(&names[1])
        );
        assert_eq!(
            changed(&|| atomic_file::write(&b.summary(), b"1").unwrap()),
            machine(&names[1])
        );
        let read = || {
            fs::read(a.summary()).unwrap();
            fs::write(a.reports().join("1.x.json"), "").unwrap();
        };
        assert!(changed(&read).is_nothing());
        assert!(changed(&|| atomic_file::write(&state.fleet(), b"1").unwrap()).fleet);
        assert!(changed(&|| atomic_file::write(&runtime.problems(), b"[]").unwrap()).problems);
        assert!(changed(&|| fs::remove_dir_all(runtime.root()).unwrap()).problems);
        assert!(changes.is_blind());
    }
}
