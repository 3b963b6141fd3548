//! What the appliance counts about itself while it runs.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bento_protocol::Format;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sshd::SessionCounters;
use crate::store::atomic_file;
use crate::store::paths::Runtime;

/// The counters of the running appliance: counted where it happens, by any thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Generations that were published.
    pub publications: Counter,
    /// Publications that the state stopped, such as on a full disk; each new try counts.
    pub failed_publications: Counter,
    /// Reports that were taken in.
    pub reports: Counter,
    /// What lay in an inbox and wasn't a report.
    pub refused: Counter,
    /// Notifications that were delivered.
    pub notifications: Counter,
    /// Notifications that weren't; each new try counts.
    pub failed_notifications: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts so many more.
    pub fn add(&self, more: u64) {
        // Nothing else depends on the order in which others see it.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The counters as they are now, with what others count.
    pub fn snapshot(
        &self,
        started: Timestamp,
        sessions: SessionCounters,
        problems: usize,
    ) -> CounterValues {
        CounterValues {
            format: Format,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started,
            sessions,
            publications: self.publications.get(),
            failed_publications: self.failed_publications.get(),
            reports: self.reports.get(),
            refused: self.refused.get(),
            notifications: self.notifications.get(),
            failed_notifications: self.failed_notifications.get(),
            problems: problems as u64,
        }
    }
}

/// The counters at one moment: the document that commands in other processes read. What each counts says [`Activity`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the counters are those of Counters, and explained there"
)]
pub struct CounterValues {
    /// The version of this document.
    pub format: Format,
    /// The version of the appliance.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// Its sessions.
    pub sessions: SessionCounters,
    pub publications: u64,
    pub failed_publications: u64,
    pub reports: u64,
    pub refused: u64,
    pub notifications: u64,
    pub failed_notifications: u64,
    /// How many things are wrong now.
    pub problems: u64,
}

impl CounterValues {
    /// Reads what the appliance that runs here has written; none where none does.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(runtime: &Runtime) -> io::Result<Option<Self>> {
        atomic_file::read_json(&runtime.activity())
    }

    /// Writes it for others.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, runtime: &Runtime) -> io::Result<()> {
        atomic_file::write_json(&runtime.activity(), self)
    }
}
