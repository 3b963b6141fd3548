//! The session table: the sessions, their machines, and the rules that end them. It has no effect by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::counters::SessionCounters;
use super::limits::SessionLimits;
use super::passwd::SSHD_UID;
use super::reason::Reason;

/// The slots of the appliance's own health check, for which a crowd must not look like a failure.
const OWN_SLOTS: usize = 4;

/// A connection that has an sshd.
#[derive(Debug)]
struct Session {
    /// Whether the appliance itself has connected.
    own: bool,
    /// The machine's account, once it has authenticated.
    uid: Option<u32>,
    began: Instant,
    deadline: Instant,
    end: Option<End>,
}

/// The end of a session.
#[derive(Debug)]
struct End {
    reason: Reason,
    /// The deadline for the end of its processes; none until its connection is cut.
    deadline: Option<Instant>,
}

impl Session {
    /// Whether it takes a slot.
    fn takes_slot(&self) -> bool {
        self.uid.is_none() && !self.own
    }

    /// Ends it, if there is a reason. The first reason stays.
    fn end_for(&mut self, reason: Option<Reason>) {
        if let (None, Some(reason)) = (&self.end, reason) {
            self.end = Some(End {
                reason,
                deadline: None,
            });
        }
    }
}

/// An action on a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Cut its connection.
    HangUp(u64, Reason),
    /// Kill its processes: cutting the connection wasn't enough.
    Kill(u64),
}

/// The sessions, by number, which only grows.
#[derive(Debug)]
pub(super) struct SessionTable {
    limits: SessionLimits,
    next: u64,
    sessions: BTreeMap<u64, Session>,
    allowed: BTreeSet<u32>,
    /// For an account with changed keys: the first session that can only have used the new ones.
    renewed: BTreeMap<u32, u64>,
    /// The counts of past events; open sessions are counted on request.
    counters: SessionCounters,
}

impl SessionTable {
    pub(super) fn new(limits: SessionLimits) -> Self {
        SessionTable {
            limits,
            next: 1,
            sessions: BTreeMap::new(),
            allowed: BTreeSet::new(),
            renewed: BTreeMap::new(),
            counters: SessionCounters::default(),
        }
    }

    /// The numbers of open and past sessions.
    pub(super) fn counters(&self) -> SessionCounters {
        let others = || self.sessions.values().filter(|session| !session.own);
        let authenticated = others().filter(|session| session.uid.is_some()).count() as u64;
        SessionCounters {
            unauthenticated: others().count() as u64 - authenticated,
            authenticated,
            ..self.counters.clone()
        }
    }

    pub(super) fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// The number of the next session.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The oldest session that is, or may turn out to be, this account's.
    pub(super) fn oldest_of(&self, uid: u32) -> Option<u64> {
        let may_be = |session: &Session| session.uid.is_none_or(|other| other == uid);
        self.sessions
            .iter()
            .find(|(_, session)| may_be(session))
            .map(|(number, _)| *number)
    }

    /// Whether a slot is free, for the appliance itself or for others.
    pub(super) fn has_free_slot(&self, own: bool) -> bool {
        let sessions = self.sessions.values();
        if own {
            sessions.filter(|session| session.own).count() < OWN_SLOTS
        } else {
            sessions.filter(|session| session.takes_slot()).count() < self.limits.unauthenticated
        }
    }

    /// The sessions that take a slot and aren't ending, oldest first.
    fn holders(&mut self) -> impl Iterator<Item = &mut Session> {
        let sessions = self.sessions.values_mut();
        sessions.filter(|session| session.takes_slot() && session.end.is_none())
    }

    /// Ends the oldest sessions that haven't authenticated, for as many pending connections as have no slot.
    fn evict(&mut self, pending: usize, now: Instant) {
        let evict_after = self.limits.evict_after;
        let missing = self.missing_slots(pending);
        self.holders()
            .take(missing)
            .filter(|session| session.began + evict_after <= now)
            .for_each(|session| session.end_for(Some(Reason::Room)));
    }

    /// The number of pending connections without a slot, free or about to be.
    fn missing_slots(&mut self, pending: usize) -> usize {
        let free = self
            .limits
            .unauthenticated
            .saturating_sub(self.holders().count());
        pending.saturating_sub(free)
    }

    /// Records that a connection gets an sshd, and returns the number of its session.
    pub(super) fn begin(&mut self, own: bool, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.counters.accepted += u64::from(!own);
        let deadline = now + self.limits.grace;
        self.sessions.insert(
            number,
            Session {
                own,
                uid: None,
                began: now,
                deadline,
                end: None,
            },
        );
        number
    }

    pub(super) fn is_own(&self, number: u64) -> bool {
        self.sessions
            .get(&number)
            .is_some_and(|session| session.own)
    }

    /// Whether a session has authenticated or is the appliance's own.
    pub(super) fn is_known(&self, number: u64) -> bool {
        self.sessions
            .get(&number)
            .is_some_and(|session| !session.takes_slot())
    }

    /// Records that a process of a session runs as this user. True if that shows the login of a machine that is accepted.
    pub(super) fn identify(&mut self, number: u64, uid: u32, now: Instant) -> bool {
        if matches!(uid, 0 | SSHD_UID) {
            return false;
        }
        let refusal = self.refusal(number, uid);
        let Some(session) = self
            .sessions
            .get_mut(&number)
            .filter(|it| it.uid != Some(uid))
        else {
            return false;
        };
        session.uid = Some(uid);
        session.deadline = now + self.limits.session;
        session.end_for(refusal);
        let is_accepted = session.end.is_none();
        self.counters.logins += u64::from(is_accepted);
        is_accepted
    }

    fn refusal(&self, number: u64, uid: u32) -> Option<Reason> {
        let others = |session: &&Session| session.uid == Some(uid) && session.end.is_none();
        if !self.allowed.contains(&uid) {
            Some(Reason::Account)
        } else if self.renewed.get(&uid).is_some_and(|first| number < *first) {
            Some(Reason::Keys)
        } else if self.sessions.values().filter(others).count() >= self.limits.per_account {
            Some(Reason::Number)
        } else {
            None
        }
    }

    /// Allows sessions to these accounts only, and ends those of others.
    pub(super) fn allow(&mut self, uids: BTreeSet<u32>) {
        self.allowed = uids;
        for session in self.sessions.values_mut() {
            if session.uid.is_some_and(|uid| !self.allowed.contains(&uid)) {
                session.end_for(Some(Reason::Account));
            }
        }
    }

    /// Ends every session of this account that has begun, also before its login.
    pub(super) fn end_account(&mut self, uid: u32) {
        let oldest = self.sessions.keys().next().copied().unwrap_or(self.next);
        self.renewed.retain(|_, first| *first > oldest);
        self.renewed.insert(uid, self.next);
        for session in self
            .sessions
            .values_mut()
            .filter(|session| session.uid == Some(uid))
        {
            session.end_for(Some(Reason::Keys));
        }
    }

    /// Ends the open sessions of this account; it may connect again.
    pub(super) fn interrupt(&mut self, uid: u32) {
        for session in self
            .sessions
            .values_mut()
            .filter(|session| session.uid == Some(uid))
        {
            session.end_for(Some(Reason::Inbox));
        }
    }

    /// Ends every session.
    pub(super) fn end_all(&mut self) {
        for session in self.sessions.values_mut() {
            session.end_for(Some(Reason::Stop));
        }
    }

    /// Removes a session without processes, and returns its account.
    pub(super) fn remove(&mut self, number: u64) -> Option<u32> {
        self.sessions
            .remove(&number)
            .and_then(|session| session.uid)
    }

    /// Takes the actions that are due, with so many pending connections.
    pub(super) fn due(&mut self, pending: usize, now: Instant) -> Vec<Action> {
        self.evict(pending, now);
        let hang_up = self.limits.hang_up;
        let counters = &mut self.counters;
        let actions = self.sessions.iter_mut().filter_map(|(number, session)| {
            if session.deadline <= now {
                let reason = if session.uid.is_some() {
                    Reason::Length
                } else {
                    Reason::Grace
                };
                session.end_for(Some(reason));
            }
            let end = session.end.as_mut()?;
            let action = match end.deadline {
                None => {
                    if !session.own {
                        counters.end(end.reason);
                    }
                    Action::HangUp(*number, end.reason)
                }
                Some(deadline) if deadline <= now => Action::Kill(*number),
                Some(_) => return None,
            };
            end.deadline = Some(now + hang_up);
            Some(action)
        });
        actions.collect()
    }

    /// The time of the next action, if nothing changes before.
    pub(super) fn next_due(&mut self, pending: usize) -> Option<Instant> {
        let evict_after = self.limits.evict_after;
        let missing = self.missing_slots(pending);
        let eviction = self
            .holders()
            .next()
            .map(|oldest| oldest.began + evict_after);
        let eviction = eviction.filter(|_| missing > 0);
        let due = |session: &Session| match &session.end {
            Some(end) => end.deadline,
            None => Some(session.deadline),
        };
        self.sessions.values().filter_map(due).chain(eviction).min()
    }
}

#[cfg(test)]
mod tests;
