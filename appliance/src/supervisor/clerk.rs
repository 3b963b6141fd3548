//! Takes in the reports of machines that are, or just were, connected.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use bento_protocol::HostName;
use jiff::Timestamp;
use tracing::{error, info};

use crate::publication::Publications;
use crate::report::{self, Writers};
use crate::state::State;

/// How soon after its upload a report shows in status, while its session is still open.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the clerk is told.
#[derive(Debug)]
pub(super) enum Notice {
    /// A session of this machine began.
    Opened(HostName),
    /// A session of this machine ended.
    Ended(HostName),
    /// Something may lie in its inbox since before.
    Look(HostName),
}

/// Takes in reports: one inbox at a time, whoever asks.
#[derive(Debug)]
pub(super) struct Clerk {
    state: State,
    /// Only one caller at a time may take in for a machine.
    at_work: Mutex<()>,
}

impl Clerk {
    pub(super) fn new(state: State) -> Self {
        Clerk {
            state,
            at_work: Mutex::new(()),
        }
    }

    /// Works until nobody can tell it anything any more.
    pub(super) fn work(&self, notices: &Receiver<Notice>) {
        // Machines whose inboxes are to be looked at, with the number of their open sessions.
        let mut active: BTreeMap<HostName, u32> = BTreeMap::new();
        loop {
            let notice = match active.is_empty() {
                true => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => notices.recv_timeout(INTERVAL),
            };
            match notice {
                Ok(Notice::Opened(name)) => {
                    self.touch_seen(&name);
                    *active.entry(name).or_default() += 1;
                }
                Ok(Notice::Ended(name)) => {
                    self.touch_seen(&name);
                    let sessions = active.entry(name.clone()).or_default();
                    *sessions = sessions.saturating_sub(1);
                    self.look_at(&name, &mut active);
                }
                Ok(Notice::Look(name)) => _ = active.entry(name).or_default(),
                Err(RecvTimeoutError::Timeout) => {
                    for name in active.keys().cloned().collect::<Vec<_>>() {
                        self.look_at(&name, &mut active);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks once; a machine without sessions and with nothing left to take in is active no more.
    fn look_at(&self, name: &HostName, active: &mut BTreeMap<HostName, u32>) {
        let sessions = active.get(name).copied().unwrap_or_default();
        let writers = if sessions > 0 {
            Writers::Open
        } else {
            Writers::None
        };
        let state = self.state.host(name);
        let numbers = Publications::of(&state).numbers().unwrap_or_default();
        let more = numbers
            .into_iter()
            .filter(|number| self.take_in(name, *number, writers))
            .count()
            > 0;
        if sessions == 0 && !more {
            active.remove(name);
        }
    }

    /// Takes in everything from the inbox of a publication that is about to be removed.
    pub(super) fn empty(&self, name: &HostName, number: u64) {
        while self.take_in(name, number, Writers::None) {}
    }

    /// Takes in what a pass over an inbox finds. True if another pass would find more.
    fn take_in(&self, name: &HostName, number: u64, writers: Writers) -> bool {
        let _one_at_a_time = self.at_work.lock();
        let state = self.state.host(name);
        let inbox = Publications::of(&state).inbox(number);
        if !inbox.is_dir() {
            return false;
        }
        match report::take_in(&inbox, name, &state, writers, Timestamp::now()) {
            Ok(intake) => {
                for record in &intake.taken {
                    let generation = record.generation().map(|generation| generation.short());
                    info!(host = %name, generation, outcome = record.outcome_name(), "reported");
                }
                intake.more
            }
            Err(error) => {
                error!(host = %name, "{error:#}; it is tried again at its next contact");
                false
            }
        }
    }

    fn touch_seen(&self, name: &HostName) {
        let path = self.state.host(name).seen();
        let touch = || {
            File::options()
                .create(true)
                .append(true)
                .open(&path)?
                .set_modified(SystemTime::now())
        };
        // A machine that was just removed has no folder any more.
        if let Err(error) = touch().or_else(|error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }) {
            error!(host = %name, "its contact can't be noted in {}: {error}", path.display());
        }
    }
}
