//! The counters writer: writes the counters for `bento metrics`, which is another process, and wakes the notifier.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use tracing::error;

use super::problems::Problems;
use crate::metrics::counters::CounterValues;
use crate::sshd::Sessions;
use crate::store::paths::Runtime;

/// The interval between two reads of the counters. They are read and not sent, so that counting never blocks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes the counters after a change.
pub(super) struct CountersWriter {
    runtime: Runtime,
    sessions: Sessions,
    problems: Arc<Problems>,
    started: Timestamp,
}

impl CountersWriter {
    pub(super) fn new(runtime: Runtime, sessions: Sessions, problems: Arc<Problems>) -> Self {
        CountersWriter {
            runtime,
            sessions,
            problems,
            started: Timestamp::now(),
        }
    }

    /// Runs as long as the process.
    pub(super) fn run(self, notifier: &Sender<()>) {
        let mut written = None;
        let mut notified = None;
        let mut is_unwritable = false;
        loop {
            let sessions = self.sessions.counters();
            let counters = &self.problems.counters;
            let snapshot = counters.snapshot(self.started, sessions, self.problems.count());
            let matters = (
                snapshot.reports,
                snapshot.publications,
                self.problems.revision(),
            );
            if notified.replace(matters) != Some(matters) {
                // It ends only with the process.
                let _ = notifier.send(());
            }
            if written.as_ref() != Some(&snapshot) {
                match self.write(&snapshot) {
                    Ok(()) => (written, is_unwritable) = (Some(snapshot), false),
                    Err(error) if !is_unwritable => {
                        error!("{error}");
                        is_unwritable = true;
                    }
                    Err(_) => {}
                }
            }
            thread::sleep(INTERVAL);
        }
    }

    fn write(&self, snapshot: &CounterValues) -> Result<(), String> {
        let file = self.runtime.activity();
        snapshot.write(&self.runtime).map_err(|error| {
            let file = file.display();
            format!("the counters can't be written to {file}, so that metrics are old: {error}")
        })
    }
}
