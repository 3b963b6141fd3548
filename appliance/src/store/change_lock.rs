//! A lock across processes, so that a backup copies the state while nothing changes it.
//!
//! A change holds the lock shared, a copy exclusively. A second lock, the door, is taken before the first: a waiting
//! copy holds it, so that further changes wait and can't starve the copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tracing::warn;

use crate::store::paths::Runtime;

/// Held while the state is changed, or copied.
#[derive(Debug)]
pub struct Guard {
    _lock: File,
}

/// Locks the state for a change: waits for a copy in progress, and blocks copies until the guard is dropped. A thread
/// with a guard mustn't take another.
///
/// If the lock fails, the change proceeds: only a backup would suffer, and it reports the failure itself.
pub fn change(runtime: &Runtime) -> Option<Guard> {
    let guard = || {
        let door = open(&runtime.door())?;
        flock(&door, FlockOperation::LockShared)?;
        let lock = open(&runtime.changes())?;
        flock(&lock, FlockOperation::LockShared)?;
        io::Result::Ok(Guard { _lock: lock })
    };
    guard()
        .inspect_err(|error| {
            warn!("can't lock the state for a change, so a backup may be inconsistent: {error}")
        })
        .ok()
}

/// Locks the state for a copy: waits for changes in progress, and blocks changes until the guard is dropped.
///
/// # Errors
/// When the locks can't be taken, such as when no appliance runs.
pub fn alone(runtime: &Runtime) -> io::Result<Guard> {
    let existing = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let door = existing(&runtime.door())?;
    flock(&door, FlockOperation::LockExclusive)?;
    let lock = existing(&runtime.changes())?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(Guard { _lock: lock })
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// Time after which a lock counts as never taken.
    const MISSING: Duration = Duration::from_secs(60);

    #[test]
    fn a_copy_gets_the_lock_in_spite_of_continuous_changes() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = &Runtime::new(folder.path());
        assert!(alone(runtime).is_err(), "nobody runs");
        let (sender, copies) = mpsc::channel();
        let mut held = change(runtime).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || sender.send(alone(runtime)));
            // One of them holds it at any time, until the door is locked.
            let began = Instant::now();
            let late = loop {
                let (sender, changes) = mpsc::channel();
                scope.spawn(move || sender.send(change(runtime)));
                match changes.recv_timeout(Duration::from_millis(50)) {
                    Ok(next) => held = next.unwrap(),
                    Err(_) => break changes,
                }
                assert!(began.elapsed() < MISSING, "the copy starves");
                assert!(copies.try_recv().is_err(), "a change is in progress");
            };
            assert!(copies.try_recv().is_err(), "a change is in progress");
            drop(held);
            let copy = copies.recv_timeout(MISSING).unwrap().unwrap();
            assert!(late.try_recv().is_err(), "somebody copies");
            drop(copy);
            assert!(late.recv_timeout(MISSING).unwrap().is_some());
        });
    }
}
