use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitStatus};

/// The ends of children that somebody waits for, in a process where another thread [reaps](super::reap).
#[derive(Debug, Default)]
pub struct Exits(Mutex<HashMap<Pid, Option<WaitStatus>>>);

impl Exits {
    /// Starts a child whose end will be known here.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // Locked until it is expected: it may end at once.
        let mut expected = self.expected();
        let child = command.spawn()?;
        expected.insert(Pid::from_child(&child), None);
        Ok(child)
    }

    /// Takes note of what was reaped.
    pub fn note(&self, reaped: &[(Pid, WaitStatus)]) {
        let mut expected = self.expected();
        for (pid, status) in reaped {
            if let Some(end) = expected.get_mut(pid) {
                *end = Some(*status);
            }
        }
    }

    /// How a child has ended; none while it runs.
    ///
    /// # Errors
    /// When the kernel can't tell.
    pub fn ended(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let status = match child.try_wait() {
            // Somebody else has reaped it, and tells of it soon.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::CHILD.raw_os_error()) => {
                let end = self.expected().get(&Pid::from_child(child)).copied();
                end.flatten().map(|end| ExitStatus::from_raw(end.as_raw()))
            }
            waited => waited?,
        };
        if status.is_some() {
            self.forget(child);
        }
        Ok(status)
    }

    /// Nobody waits for this child any more.
    pub fn forget(&self, child: &Child) {
        self.expected().remove(&Pid::from_child(child));
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<Pid, Option<WaitStatus>>> {
        // A map is never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
