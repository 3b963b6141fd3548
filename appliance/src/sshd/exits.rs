use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitStatus};

/// The ends of children that somebody waits for, in a process where another thread [reaps](super::reap).
#[derive(Debug, Default)]
pub struct Exits(Mutex<Ends>);

#[derive(Debug, Default)]
struct Ends {
    /// The children that are waited for; none while they run.
    expected: HashMap<Pid, Option<WaitStatus>>,
    /// How many are being started: until then nobody knows their numbers.
    starting: usize,
    /// All that was reaped meanwhile: one of them may have ended at once.
    unclaimed: HashMap<Pid, WaitStatus>,
}

impl Exits {
    /// Starts a child whose end will be known here.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.ends().starting += 1;
        // It may take long, where the program lies on a slow filesystem, and whoever reaps mustn't wait for that.
        let child = command.spawn();
        let mut ends = self.ends();
        if let Ok(child) = &child {
            let pid = Pid::from_child(child);
            let end = ends.unclaimed.remove(&pid);
            ends.expected.insert(pid, end);
        }
        ends.starting -= 1;
        if ends.starting == 0 {
            ends.unclaimed.clear();
        }
        child
    }

    /// Takes note of what was reaped.
    pub fn note(&self, reaped: &[(Pid, WaitStatus)]) {
        let mut ends = self.ends();
        for (pid, status) in reaped {
            if let Some(end) = ends.expected.get_mut(pid) {
                *end = Some(*status);
            } else if ends.starting > 0 {
                ends.unclaimed.insert(*pid, *status);
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
                let end = self.ends().expected.get(&Pid::from_child(child)).copied();
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
        self.ends().expected.remove(&Pid::from_child(child));
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        // Nothing panics while it is half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
