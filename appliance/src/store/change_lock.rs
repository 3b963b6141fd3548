//! A moment in which nobody changes the state, for whoever copies it: a lock that reaches across processes.
//!
//! Whoever changes the state holds it shared, whoever copies it alone. A second lock is the door to the first: it is
//! shut while somebody waits to be alone, who would otherwise wait for as long as two threads take turns.

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

/// Waits until nobody copies the state, and lets nobody begin to before the guard goes. Whoever holds one mustn't ask
/// for another.
///
/// Where there can't be a lock nobody is kept from changing anything: only a backup would suffer, and it says so.
pub fn change(runtime: &Runtime) -> Option<Guard> {
    let guard = || {
        let door = open(&runtime.door())?;
        flock(&door, FlockOperation::LockShared)?;
        let lock = open(&runtime.changes())?;
        flock(&lock, FlockOperation::LockShared)?;
        io::Result::Ok(Guard { _lock: lock })
    };
    guard()
        .inspect_err(|error| warn!("a backup can't be kept from what is changed now: {error}"))
        .ok()
}

/// Waits until nobody changes the state, and lets nobody before the guard goes.
///
/// # Errors
/// When the locks can't be had, such as where no appliance runs.
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

    /// How long a lock may take before it never comes.
    const MISSING: Duration = Duration::from_secs(60);

    #[test]
    fn who_copies_is_alone_however_many_take_turns_in_changing() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = &Runtime::new(folder.path());
        assert!(alone(runtime).is_err(), "nobody runs");
        let (sender, copies) = mpsc::channel();
        let mut held = change(runtime).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || sender.send(alone(runtime)));
            // One of them holds it at any time, until the door is shut.
            let began = Instant::now();
            let late = loop {
                let (sender, changes) = mpsc::channel();
                scope.spawn(move || sender.send(change(runtime)));
                match changes.recv_timeout(Duration::from_millis(50)) {
                    Ok(next) => held = next.unwrap(),
                    Err(_) => break changes,
                }
                assert!(began.elapsed() < MISSING, "they take turns for ever");
                assert!(copies.try_recv().is_err(), "somebody changes something");
            };
            assert!(copies.try_recv().is_err(), "somebody changes something");
            drop(held);
            let copy = copies.recv_timeout(MISSING).unwrap().unwrap();
            assert!(late.try_recv().is_err(), "somebody copies");
            drop(copy);
            assert!(late.recv_timeout(MISSING).unwrap().is_some());
        });
    }
}
