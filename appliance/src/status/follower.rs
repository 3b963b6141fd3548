//! Follows the status of a fleet whose state is here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::changes::{Changed, Changes};
use super::{Reading, Status};
use crate::store::paths::{Runtime, State};

/// After a change one waits so long for those that belong to it: a report is a record, a summary and a contact.
const SETTLE: Duration = Duration::from_millis(200);
/// At least so long after one status comes the next: a fleet that wakes at once isn't told machine by machine. Together
/// with [`SETTLE`] it is what a report may take to be seen, which is a second.
const REST: Duration = Duration::from_millis(700);
/// At least so long after everything was read it is all read again, however much changes.
const REREAD: Duration = Duration::from_secs(1);
/// What no change tells, such as that a machine has become silent, is noticed after so long at the latest.
const LOOK: Duration = Duration::from_secs(30);

/// Tells a status whenever it is another one.
#[derive(Debug)]
pub struct Follower {
    state: State,
    runtime: Runtime,
    reading: Reading,
    changes: Changes,
    changed: Changed,
    /// When to look next.
    due: Instant,
    /// When everything was read last.
    read: Instant,
    /// When something was told last, and what.
    told: Option<(Instant, Status)>,
}

impl Follower {
    /// Reads everything, and watches it from now on.
    ///
    /// # Errors
    /// As [`Status::read`], and when the kernel has no room for another watcher.
    pub fn of(state: &State, runtime: &Runtime, now: Instant) -> anyhow::Result<Self> {
        // First watched, then read: what changes in between is read twice rather than never.
        let changes = Changes::of(state, runtime, std::iter::empty())?;
        let reading = Reading::of(state, runtime)?;
        let mut follower = Follower {
            state: state.clone(),
            runtime: runtime.clone(),
            reading,
            changes,
            changed: Changed::default(),
            due: now,
            read: now,
            told: None,
        };
        follower.watch_and_read(now)?;
        Ok(follower)
    }

    /// When [`Self::next`] is to be asked again, if nothing changes before.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Takes note of what has changed.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn take_note(&mut self, now: Instant) -> io::Result<()> {
        let changed = self.changes.take()?;
        if changed.is_nothing() {
            return Ok(());
        }
        if self.changed.is_nothing() {
            let rested = self.told.as_ref().map(|(told, _)| *told + REST);
            self.due = (now + SETTLE).max(rested.unwrap_or(now));
        }
        self.changed.add(changed);
        Ok(())
    }

    /// The status, if it is due and says something that wasn't told before.
    ///
    /// # Errors
    /// As [`Status::read`].
    pub fn next(&mut self, now: Instant) -> anyhow::Result<Option<Status>> {
        if now < self.due {
            return Ok(None);
        }
        if self.changed.all && now < self.read + REREAD {
            self.due = self.read + REREAD;
            return Ok(None);
        }
        self.due = now + LOOK;
        let changed = std::mem::take(&mut self.changed);
        if changed.all || self.changes.is_blind() && now >= self.read + LOOK {
            self.watch_and_read(now)?;
        } else {
            if changed.fleet {
                self.reading.read_fleet()?;
            }
            if changed.problems {
                self.reading.read_problems();
            }
            for name in &changed.machines {
                self.reading.read_machine(name);
            }
        }
        let status = self.reading.status(Timestamp::now());
        let is_told = |(_, told): &(_, Status)| told.says_the_same_as(&status);
        if self.told.as_ref().is_some_and(is_told) {
            return Ok(None);
        }
        self.told = Some((now, status.clone()));
        Ok(Some(status))
    }

    fn watch_and_read(&mut self, now: Instant) -> anyhow::Result<()> {
        self.read = now;
        self.changes.watch_again(self.reading.names());
        self.reading = Reading::of(&self.state, &self.runtime)?;
        Ok(())
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }
}
