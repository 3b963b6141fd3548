//! The queue of the intake.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bento_protocol::HostName;

use super::super::intake::quota::UploadQuotas;

/// The machines with inboxes to take in, and the times of the next pass and count.
#[derive(Debug)]
pub(super) struct IntakeQueue {
    pub(super) quotas: UploadQuotas,
    /// The machines whose inbox is next, in order.
    pub(super) waiting: VecDeque<HostName>,
    pub(super) next_count: Instant,
    pub(super) next_pass: Instant,
    /// Machines whose reports couldn't be kept in the last pass.
    pub(super) unstored: BTreeSet<HostName>,
}

impl IntakeQueue {
    pub(super) fn new(now: Instant) -> Self {
        IntakeQueue {
            quotas: UploadQuotas::default(),
            waiting: VecDeque::new(),
            next_count: now,
            next_pass: now,
            unstored: BTreeSet::new(),
        }
    }

    /// The time until there is something to do; none if only a message can bring that.
    pub(super) fn idle_time(&self, now: Instant) -> Option<Duration> {
        if !self.waiting.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = self.next_count.min(self.next_pass);
        (!self.quotas.is_empty()).then(|| next.saturating_duration_since(now))
    }

    /// Adds a machine at the end, unless it waits already.
    pub(super) fn enqueue(&mut self, name: HostName) {
        if !self.waiting.contains(&name) {
            self.waiting.push_back(name);
        }
    }
}
