//! Counters of the running appliance.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bento_protocol::Format;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sshd::SessionCounters;
use crate::store::atomic_file;
use crate::store::paths::Runtime;

/// The counters of the running appliance, incremented by any thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Published generations.
    pub publications: Counter,
    /// Publications that failed because of the state, such as a full disk; each attempt counts.
    pub failed_publications: Counter,
    /// Received reports.
    pub reports: Counter,
    /// Files in inboxes that weren't reports.
    pub refused: Counter,
    /// Delivered notifications.
    pub notifications: Counter,
    /// Failed notifications; each attempt counts.
    pub failed_notifications: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the counter.
    pub fn add(&self, more: u64) {
        // No other data depends on the order.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The current values, with those of others.
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

/// The values of the counters: the document for other processes. [`Counters`] explains each value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the values are those of Counters, and explained there"
)]
pub struct CounterValues {
    /// The version of this document.
    pub format: Format,
    /// The version of the appliance.
    pub version: String,
    /// The time of its start.
    pub started: Timestamp,
    /// Its sessions.
    pub sessions: SessionCounters,
    pub publications: u64,
    pub failed_publications: u64,
    pub reports: u64,
    pub refused: u64,
    pub notifications: u64,
    pub failed_notifications: u64,
    /// The number of current problems.
    pub problems: u64,
}

impl CounterValues {
    /// Reads the values of the running appliance; none if none runs here.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(runtime: &Runtime) -> io::Result<Option<Self>> {
        atomic_file::read_json(&runtime.activity())
    }

    /// Writes the document.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, runtime: &Runtime) -> io::Result<()> {
        atomic_file::write_json(&runtime.activity(), self)
    }
}
