//! What the intake has to do next.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bento_protocol::HostName;

use super::super::intake::quota::UploadQuotas;

/// Whom it expects, and whose turn it is.
#[derive(Debug)]
pub(super) struct IntakeQueue {
    pub(super) visits: UploadQuotas,
    /// Whose inbox is to be looked at next.
    pub(super) queue: VecDeque<HostName>,
    pub(super) next_watch: Instant,
    pub(super) next_round: Instant,
    /// Machines whose reports couldn't be kept when they were looked at last.
    pub(super) unkept: BTreeSet<HostName>,
}

impl IntakeQueue {
    pub(super) fn new(now: Instant) -> Self {
        IntakeQueue {
            visits: UploadQuotas::default(),
            queue: VecDeque::new(),
            next_watch: now,
            next_round: now,
            unkept: BTreeSet::new(),
        }
    }

    /// How long there is nothing to do; none for as long as nobody comes.
    pub(super) fn leisure(&self, now: Instant) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = self.next_watch.min(self.next_round);
        (!self.visits.is_empty()).then(|| next.saturating_duration_since(now))
    }

    /// Its inbox is to be looked at, after those of the others.
    pub(super) fn enqueue(&mut self, name: HostName) {
        if !self.queue.contains(&name) {
            self.queue.push_back(name);
        }
    }
}
