//! The status of a fleet as it changes.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Status, StatusReading};
use crate::store::paths::{Runtime, State};

/// The interval between two checks for changes: a thousand machines take some milliseconds.
const INTERVAL: Duration = Duration::from_secs(1);
/// The interval between two complete reads. They find changes without a new mtime: a machine that became silent, or two
/// changes within one tick of the filesystem's clock.
const REREAD: Duration = Duration::from_secs(30);

/// Returns a status whenever it has changed.
#[derive(Debug)]
pub struct Follower {
    state: State,
    runtime: Runtime,
    reading: StatusReading,
    due: Instant,
    reread_due: Instant,
    last: Option<Status>,
}

impl Follower {
    /// Reads everything.
    ///
    /// # Errors
    /// As [`Status::read`].
    pub fn of(state: &State, runtime: &Runtime, now: Instant) -> anyhow::Result<Self> {
        Ok(Follower {
            reading: StatusReading::of(state, runtime)?,
            state: state.clone(),
            runtime: runtime.clone(),
            due: now,
            reread_due: now + REREAD,
            last: None,
        })
    }

    /// The time of the next call of [`Self::next`].
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The status, if it is due and differs from the last one.
    ///
    /// # Errors
    /// As [`Status::read`].
    pub fn next(&mut self, now: Instant) -> anyhow::Result<Option<Status>> {
        if now < self.due {
            return Ok(None);
        }
        self.due = now + INTERVAL;
        let has_changed = if now < self.reread_due {
            self.reading.refresh()?
        } else {
            self.reread_due = now + REREAD;
            self.reading = StatusReading::of(&self.state, &self.runtime)?;
            true
        };
        if self.last.is_some() && !has_changed {
            return Ok(None);
        }
        let status = self.reading.status(Timestamp::now());
        let is_same = |last: &Status| last.says_the_same_as(&status);
        if self.last.as_ref().is_some_and(is_same) {
            return Ok(None);
        }
        self.last = Some(status.clone());
        Ok(Some(status))
    }
}
