//! Which sessions there are, whose they are, and which must end: the rules, without any effect.

mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use self::session::Session;
use super::counters::SessionCounters;
use super::limits::Limits;
use super::passwd::SSHD_UID;
use super::reason::Reason;
use super::tcp_info::Turn;

/// Sessions of the appliance's own health check that don't need a slot: it must not take strangers for a failure.
const OWN_SESSIONS: usize = 4;

/// The fewest newcomers at a time, however slow they are.
const FEWEST_NEWCOMERS: usize = 8;

/// Who may have an sshd now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots {
    /// A connection that has introduced itself.
    pub(super) free: bool,
    /// One that hasn't: these get at most half of the slots.
    pub(super) silent: bool,
    /// The appliance's own, which needs no slot.
    pub(super) own: bool,
}

/// What has to be done to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Cut its wire.
    HangUp(u64, Reason),
    /// Kill what is left of it: cutting the wire didn't help.
    Kill(u64),
}

/// The sessions, each known by a number that only grows.
#[derive(Debug)]
pub(super) struct SessionTable {
    limits: Limits,
    /// How many newcomers there may be, by how long machines lately took to authenticate.
    newcomers: usize,
    next: u64,
    sessions: BTreeMap<u64, Session>,
    allowed: BTreeSet<u32>,
    /// For an account whose keys were changed: the first session that can only know the new ones.
    renewed: BTreeMap<u32, u64>,
    /// What has happened; what there is now is counted when somebody asks.
    tally: SessionCounters,
}

impl SessionTable {
    pub(super) fn new(limits: Limits) -> Self {
        SessionTable {
            newcomers: limits.newcomers,
            limits,
            next: 1,
            sessions: BTreeMap::new(),
            allowed: BTreeSet::new(),
            renewed: BTreeMap::new(),
            tally: SessionCounters::default(),
        }
    }

    /// How many sessions there are, and were.
    pub(super) fn tally(&self) -> SessionCounters {
        let others = || self.sessions.values().filter(|session| !session.own);
        let authenticated = others().filter(|session| session.uid.is_some()).count() as u64;
        SessionCounters {
            unauthenticated: others().count() as u64 - authenticated,
            authenticated,
            ..self.tally.clone()
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The number that the next session will have.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The oldest session that is this account's, or may turn out to be.
    pub(super) fn oldest_of(&self, uid: u32) -> Option<u64> {
        let may_be = |session: &Session| session.uid.is_none_or(|other| other == uid);
        self.sessions
            .iter()
            .find(|(_, session)| may_be(session))
            .map(|(number, _)| *number)
    }

    /// Who may have an sshd now.
    pub(super) fn slots(&self, now: Instant) -> Slots {
        let most = self.limits.unauthenticated;
        let taken = self.strangers().count();
        let free = taken < most && self.pending(now) < self.newcomers;
        let own = self.sessions.values().filter(|session| session.own).count();
        Slots {
            free,
            silent: free && taken < most.div_ceil(2),
            own: own < OWN_SESSIONS,
        }
    }

    /// How many newcomers there are.
    fn pending(&self, now: Instant) -> usize {
        let owes = |session: &Session| session.owed && session.spoke + self.limits.pause <= now;
        self.strangers()
            .filter(|session| now < self.settled(session) && !owes(session))
            .count()
    }

    /// Who takes a slot.
    fn strangers(&self) -> impl Iterator<Item = &Session> {
        let sessions = self.sessions.values();
        sessions.filter(|session| session.takes_slot())
    }

    /// When a session that hasn't authenticated stops to be a newcomer. A machine is much faster as a rule.
    fn settled(&self, session: &Session) -> Instant {
        session.began + self.limits.grace / 4
    }

    /// The sessions that take a slot.
    pub(super) fn unauthenticated(&self) -> Vec<u64> {
        let sessions = self.sessions.iter();
        let strangers = sessions.filter(|(_, session)| session.takes_slot());
        strangers.map(|(number, _)| *number).collect()
    }

    /// What was seen of a session's connection.
    pub(super) fn observe(&mut self, number: u64, turn: Turn, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&number) {
            // The connection may have waited for this session for a long time.
            let spoke = now.checked_sub(turn.spoke).unwrap_or(session.began);
            session.spoke = spoke.max(session.began);
            session.owed = turn.owed;
        }
    }

    /// Ends sessions that use their slots for nothing, if there are none left for as many others as wait: first those
    /// whose clients have been owing an answer for the longest time, then those that have given no reason for an
    /// answer for half of the time that they get, such as one whose client sends a byte now and then.
    pub(super) fn make_room(&mut self, waiting: usize, now: Instant) {
        // The slots of those that are ended already are as good as free.
        let holding = self.strangers().filter(|session| session.end.is_none());
        let free = self.limits.unauthenticated.saturating_sub(holding.count());
        let startable = self.newcomers.saturating_sub(self.pending(now));
        let wanted = waiting.min(startable).saturating_sub(free);
        let mut idle: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.takes_slot() && session.end.is_none())
            .filter_map(|(number, session)| Some((session.idle(&self.limits, now)?, *number)))
            .collect();
        idle.sort();
        for (_, number) in idle.into_iter().take(wanted) {
            if let Some(session) = self.sessions.get_mut(&number) {
                session.end_for(Some(Reason::Room));
            }
        }
    }

    /// A connection gets an sshd.
    pub(super) fn begin(&mut self, own: bool, now: Instant) -> u64 {
        if self.strangers().next().is_none() {
            // What was learned may be long out of date.
            self.newcomers = self.limits.newcomers;
        }
        let number = self.next;
        self.next += 1;
        self.tally.accepted += u64::from(!own);
        let deadline = now + self.limits.grace;
        self.sessions.insert(
            number,
            Session {
                own,
                uid: None,
                began: now,
                spoke: now,
                owed: false,
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

    /// Whether it is known whose a session is, the appliance's own included.
    pub(super) fn is_known(&self, number: u64) -> bool {
        self.sessions
            .get(&number)
            .is_some_and(|session| !session.takes_slot())
    }

    /// Some process of a session runs as this user. Says whether a machine has authenticated by that and is welcome.
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
        let in_good_time = now < session.began + self.limits.grace / 4;
        session.uid = Some(uid);
        session.deadline = now + self.limits.session;
        session.end_for(refusal);
        let welcome = session.end.is_none();
        self.tally.logins += u64::from(welcome);
        self.pace(in_good_time);
        welcome
    }

    /// One more at a time as long as machines authenticate in good time, and one less when they don't. Strangers, who
    /// never do, have no say in it.
    fn pace(&mut self, in_good_time: bool) {
        self.newcomers = if in_good_time {
            (self.newcomers + 1).min(self.limits.unauthenticated)
        } else {
            (self.newcomers - 1).max(FEWEST_NEWCOMERS.min(self.limits.newcomers))
        };
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

    /// Only these accounts may have sessions from now on.
    pub(super) fn allow(&mut self, uids: BTreeSet<u32>) {
        self.allowed = uids;
        for session in self.sessions.values_mut() {
            if session.uid.is_some_and(|uid| !self.allowed.contains(&uid)) {
                session.end_for(Some(Reason::Account));
            }
        }
    }

    /// Every session of this account that has begun must end, also those that don't know yet that they are its.
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

    /// The sessions that are known to be this account's must end; it may come again.
    pub(super) fn interrupt(&mut self, uid: u32) {
        for session in self
            .sessions
            .values_mut()
            .filter(|session| session.uid == Some(uid))
        {
            session.end_for(Some(Reason::Inbox));
        }
    }

    /// Every session must end.
    pub(super) fn end_all(&mut self) {
        for session in self.sessions.values_mut() {
            session.end_for(Some(Reason::Stop));
        }
    }

    /// The last process of a session has gone; gives whose it was.
    pub(super) fn ended(&mut self, number: u64) -> Option<u32> {
        self.sessions
            .remove(&number)
            .and_then(|session| session.uid)
    }

    /// What has to be done by now. Taken as done.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Action> {
        let patience = self.limits.hang_up;
        let tally = &mut self.tally;
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
                        tally.end(end.reason);
                    }
                    Action::HangUp(*number, end.reason)
                }
                Some(deadline) if deadline <= now => Action::Kill(*number),
                Some(_) => return None,
            };
            end.deadline = Some(now + patience);
            Some(action)
        });
        actions.collect()
    }

    /// When time alone will change something: [`Self::due`] or [`Self::slots`].
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let due = |session: &Session| match &session.end {
            Some(end) => end.deadline,
            None => Some(session.deadline),
        };
        let settled = self.strangers().map(|session| self.settled(session));
        let settled = settled.filter(|settled| *settled > now);
        self.sessions.values().filter_map(due).chain(settled).min()
    }
}

#[cfg(test)]
mod tests;
