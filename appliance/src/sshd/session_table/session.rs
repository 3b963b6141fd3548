//! One session, as the rules see it.

use std::time::Instant;

use super::super::limits::Limits;
use super::super::reason::Reason;

/// A connection that has an sshd.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) own: bool,
    pub(super) uid: Option<u32>,
    pub(super) began: Instant,
    /// When its sshd last said something. That is what progress is: a byte now and then from the client is none.
    pub(super) spoke: Instant,
    /// Whether its client has said nothing since.
    pub(super) owed: bool,
    pub(super) deadline: Instant,
    pub(super) end: Option<End>,
}

/// That a session must end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: Reason,
    /// When its processes must be gone; none until its wire was cut.
    pub(super) deadline: Option<Instant>,
}

/// How little a session does for its slot; the first is ended first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Idle {
    /// Its client has owed an answer since then.
    Stalled(Instant),
    /// Its client talks, but there was nothing to answer since then.
    Drips(Instant),
}

impl Session {
    /// Whether it takes one of the slots for who hasn't authenticated.
    pub(super) fn takes_slot(&self) -> bool {
        self.uid.is_none() && !self.own
    }

    /// What it does for its slot; none if that is enough.
    pub(super) fn idle(&self, limits: &Limits, now: Instant) -> Option<Idle> {
        let since = |limit| Some(self.spoke).filter(|spoke| *spoke + limit <= now);
        let stalls = || since(limits.stall).map(Idle::Stalled);
        let drips = || since(limits.grace / 2).map(Idle::Drips);
        if self.owed { stalls() } else { drips() }
    }

    /// That it must end, if there is a reason. The first one stands.
    pub(super) fn end_for(&mut self, reason: Option<Reason>) {
        if let (None, Some(reason)) = (&self.end, reason) {
            self.end = Some(End {
                reason,
                deadline: None,
            });
        }
    }
}
