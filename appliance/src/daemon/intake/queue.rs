//! What the intake has to do next.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bento_protocol::HostName;

use super::super::intake::quota::UploadQuotas;

/// Whom it expects, and whose turn it is.
#[derive(Debug)]
pub(super) struct IntakeQueue {
    pub(super) quotas: UploadQuotas,
    /// Whose inbox is to be looked at next.
    pub(super) waiting: VecDeque<HostName>,
    pub(super) next_count: Instant,
    pub(super) next_pass: Instant,
    /// Machines whose reports couldn't be kept when they were looked at last.
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

    /// How long there is nothing to do; none for as long as nobody comes.
    pub(super) fn idle_time(&self, now: Instant) -> Option<Duration> {
        if !self.waiting.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = self.next_count.min(self.next_pass);
        (!self.quotas.is_empty()).then(|| next.saturating_duration_since(now))
    }

    /// Its inbox is to be looked at, after those of the others.
    pub(super) fn enqueue(&mut self, name: HostName) {
        if !self.waiting.contains(&name) {
            self.waiting.push_back(name);
        }
    }
}
