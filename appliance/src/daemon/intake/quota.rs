//! Which machines are connected, and how much each has left since: the intake's book, without any effect.

use std::collections::{BTreeMap, BTreeSet};

use bento_protocol::{HostName, limits};

use crate::report::Writers;

/// The most files that a machine may leave while it is connected, however many sessions it has: an honest client
/// delivers a spool of [`limits::SPOOLED_REPORTS`] in one session, and an upload that was cut leaves a half beside it.
///
/// Files and not bytes, because a file that is taken in or refused leaves the inbox, and still takes its room for as
/// long as the session that made it keeps it open, and may grow to [`limits::REPORT_BYTES`] until then.
pub(super) const MOST_FILES: usize = limits::SPOOLED_REPORTS + 14;

/// The machines that are connected, or whose inbox isn't empty yet.
#[derive(Debug, Default)]
pub(super) struct UploadQuotas(BTreeMap<HostName, UploadQuota>);

#[derive(Debug, Default)]
struct UploadQuota {
    /// Its account, once it has had a session.
    uid: Option<u32>,
    /// Its open sessions, by number.
    sessions: BTreeSet<u64>,
    /// How many files lay in its inbox when the first of these began and don't count, see [`UploadQuotas::weigh`].
    before: Option<usize>,
    /// How many files have left its inbox since then.
    gone: usize,
    /// It had left too much when it was looked at last.
    is_over: bool,
}

impl UploadQuotas {
    /// A session of a machine began.
    pub(super) fn open(&mut self, name: HostName, uid: u32, session: u64) {
        let visit = self.0.entry(name).or_default();
        visit.uid = Some(uid);
        visit.sessions.insert(session);
    }

    /// A session ended; gives the machine whose it was, if it was one that [`Self::open`] was told of.
    pub(super) fn end(&mut self, session: u64) -> Option<HostName> {
        let (name, visit) = self
            .0
            .iter_mut()
            .find(|(_, visit)| visit.sessions.contains(&session))?;
        visit.sessions.remove(&session);
        if visit.sessions.is_empty() {
            (visit.before, visit.gone, visit.is_over) = (None, 0, false);
        }
        Some(name.clone())
    }

    /// Something may lie in a machine's inbox.
    pub(super) fn expect(&mut self, name: HostName) {
        self.0.entry(name).or_default();
    }

    /// Nothing is left to do for a machine until it connects again, unless it is connected. Says whether it is gone.
    pub(super) fn finish(&mut self, name: &HostName) -> bool {
        let is_away = self.writers(name) == Writers::None;
        is_away && self.0.remove(name).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> Vec<HostName> {
        self.0.keys().cloned().collect()
    }

    /// The machines that are connected.
    pub(super) fn connected(&self) -> Vec<HostName> {
        let connected = self.0.iter().filter(|(_, visit)| visit.is_connected());
        connected.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a machine may still be writing.
    pub(super) fn writers(&self, name: &HostName) -> Writers {
        match self.0.get(name) {
            Some(visit) if visit.is_connected() => Writers::Open,
            _ => Writers::None,
        }
    }

    /// So many files have left a machine's inbox.
    pub(super) fn removed(&mut self, name: &HostName, files: usize) {
        if let Some(visit) = self.0.get_mut(name).filter(|visit| visit.is_connected()) {
            visit.gone += files;
        }
    }

    /// So many files lie in a machine's inbox now. Gives its account if its sessions must end for it, and whether that
    /// is new.
    ///
    /// What an earlier visit left counts, because a machine that comes again faster than its inbox can be emptied would
    /// pile it up. It doesn't where nothing `can_be_kept`, such as on a full disk: that isn't the machine's fault, and
    /// it must still find its generation.
    pub(super) fn weigh(
        &mut self,
        name: &HostName,
        waiting: usize,
        can_be_kept: bool,
    ) -> Option<(u32, bool)> {
        let visit = self.0.get_mut(name).filter(|visit| visit.is_connected())?;
        let before = if can_be_kept { 0 } else { waiting };
        let before = *visit.before.get_or_insert(before);
        if (visit.gone + waiting).saturating_sub(before) <= MOST_FILES {
            return None;
        }
        let is_new = !std::mem::replace(&mut visit.is_over, true);
        Some((visit.uid?, is_new))
    }
}

impl UploadQuota {
    fn is_connected(&self) -> bool {
        !self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: u32 = 10_000;

    fn name() -> HostName {
        "kikimora".parse().unwrap()
    }

    fn visits() -> UploadQuotas {
        let mut visits = UploadQuotas::default();
        visits.open(name(), UID, 1);
        visits
    }

    #[test]
    fn what_has_left_the_inbox_counts_until_the_machine_has_gone() {
        let mut visits = visits();
        assert_eq!(visits.weigh(&name(), MOST_FILES, true), None);
        visits.removed(&name(), MOST_FILES);
        assert_eq!(visits.weigh(&name(), 0, true), None);
        visits.open(name(), UID, 2);
        visits.end(1);
        assert_eq!(
            visits.weigh(&name(), 1, true),
            Some((UID, true)),
            "another session is still there"
        );
        assert_eq!(
            visits.weigh(&name(), 1, true),
            Some((UID, false)),
            "told once"
        );
        visits.end(2);
        visits.open(name(), UID, 3);
        assert_eq!(
            visits.weigh(&name(), MOST_FILES, true),
            None,
            "it came anew"
        );
    }

    #[test]
    fn what_could_not_be_kept_of_an_earlier_visit_keeps_nobody_out() {
        let mut visits = visits();
        assert_eq!(visits.weigh(&name(), 100, false), None);
        assert_eq!(visits.weigh(&name(), 100 + MOST_FILES, false), None);
        assert!(visits.weigh(&name(), 101 + MOST_FILES, false).is_some());
        visits.end(1);
        visits.open(name(), UID, 2);
        assert!(visits.weigh(&name(), 100, true).is_some());
    }

    #[test]
    fn the_end_of_a_session_that_was_refused_ends_no_other() {
        let mut visits = visits();
        assert_eq!(visits.end(7), None);
        assert_eq!(visits.writers(&name()), Writers::Open);
        assert!(!visits.finish(&name()));
        assert_eq!(visits.end(1), Some(name()));
        assert_eq!(visits.writers(&name()), Writers::None);
        assert!(visits.finish(&name()) && visits.is_empty());
    }
}
