//! The upload quota: the connected machines, and how many files each has left. Rules only, without any effect.

use std::collections::{BTreeMap, BTreeSet};

use bento_protocol::{HostName, limits};

use crate::report::Writers;

/// The most files that a machine may leave while it is connected, with any number of sessions: an honest client delivers
/// a spool of [`limits::SPOOLED_REPORTS`] in one session, and an interrupted upload leaves half a file beside it.
///
/// Files are counted, and not bytes: a file that left the inbox still takes space while its session keeps it open, and may
/// grow to [`limits::REPORT_BYTES`] until then.
pub(super) const MAX_FILES: usize = limits::SPOOLED_REPORTS + 14;

/// The machines that are connected, or whose inbox isn't empty yet.
#[derive(Debug, Default)]
pub(super) struct UploadQuotas(BTreeMap<HostName, UploadQuota>);

#[derive(Debug, Default)]
struct UploadQuota {
    /// Its account, once it has had a session.
    uid: Option<u32>,
    /// Its open sessions, by number.
    sessions: BTreeSet<u64>,
    /// The files that were in its inbox before and don't count, see [`UploadQuotas::check`].
    before: Option<usize>,
    /// The files that left its inbox since the first session began.
    removed: usize,
    /// Whether it was beyond its quota at the last check.
    is_over: bool,
}

impl UploadQuotas {
    /// Records that a session of a machine began.
    pub(super) fn open(&mut self, name: HostName, uid: u32, session: u64) {
        let quota = self.0.entry(name).or_default();
        quota.uid = Some(uid);
        quota.sessions.insert(session);
    }

    /// Records the end of a session, and returns its machine; none if [`Self::open`] wasn't called for it.
    pub(super) fn end(&mut self, session: u64) -> Option<HostName> {
        let (name, quota) = self
            .0
            .iter_mut()
            .find(|(_, quota)| quota.sessions.contains(&session))?;
        quota.sessions.remove(&session);
        if quota.sessions.is_empty() {
            (quota.before, quota.removed, quota.is_over) = (None, 0, false);
        }
        Some(name.clone())
    }

    /// Adds a machine whose inbox may hold reports.
    pub(super) fn expect(&mut self, name: HostName) {
        self.0.entry(name).or_default();
    }

    /// Removes a machine whose inbox is empty, unless it is connected. True if it is gone.
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
        let connected = self.0.iter().filter(|(_, quota)| quota.is_connected());
        connected.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a machine may still write.
    pub(super) fn writers(&self, name: &HostName) -> Writers {
        match self.0.get(name) {
            Some(quota) if quota.is_connected() => Writers::Open,
            _ => Writers::None,
        }
    }

    /// Records that so many files have left the inbox of a machine.
    pub(super) fn removed(&mut self, name: &HostName, files: usize) {
        if let Some(quota) = self.0.get_mut(name).filter(|quota| quota.is_connected()) {
            quota.removed += files;
        }
    }

    /// Checks the quota of a machine with so many files in its inbox now. Returns its account if its sessions must end, and
    /// whether that is new.
    ///
    /// Files of earlier sessions count, because a machine could otherwise connect again and again, faster than its inbox
    /// is emptied. They don't count if the appliance can't store reports, such as on a full disk: that isn't the machine's
    /// fault, and it must still find its generation.
    pub(super) fn check(
        &mut self,
        name: &HostName,
        waiting: usize,
        can_store: bool,
    ) -> Option<(u32, bool)> {
        let quota = self.0.get_mut(name).filter(|quota| quota.is_connected())?;
        let before = if can_store { 0 } else { waiting };
        let before = *quota.before.get_or_insert(before);
        if (quota.removed + waiting).saturating_sub(before) <= MAX_FILES {
            return None;
        }
        let is_new = !std::mem::replace(&mut quota.is_over, true);
        Some((quota.uid?, is_new))
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

    fn quotas() -> UploadQuotas {
        let mut quotas = UploadQuotas::default();
        quotas.open(name(), UID, 1);
        quotas
    }

    #[test]
    fn files_that_left_the_inbox_count_until_the_machine_disconnects() {
        let mut quotas = quotas();
        assert_eq!(quotas.check(&name(), MAX_FILES, true), None);
        quotas.removed(&name(), MAX_FILES);
        assert_eq!(quotas.check(&name(), 0, true), None);
        quotas.open(name(), UID, 2);
        quotas.end(1);
        assert_eq!(
            quotas.check(&name(), 1, true),
            Some((UID, true)),
            "another session is still there"
        );
        assert_eq!(
            quotas.check(&name(), 1, true),
            Some((UID, false)),
            "new only once"
        );
        quotas.end(2);
        quotas.open(name(), UID, 3);
        assert_eq!(
            quotas.check(&name(), MAX_FILES, true),
            None,
            "it has connected again"
        );
    }

    #[test]
    fn files_that_could_not_be_stored_end_no_session() {
        let mut quotas = quotas();
        assert_eq!(quotas.check(&name(), 100, false), None);
        assert_eq!(quotas.check(&name(), 100 + MAX_FILES, false), None);
        assert!(quotas.check(&name(), 101 + MAX_FILES, false).is_some());
        quotas.end(1);
        quotas.open(name(), UID, 2);
        assert!(quotas.check(&name(), 100, true).is_some());
    }

    #[test]
    fn the_end_of_a_refused_session_ends_no_other() {
        let mut quotas = quotas();
        assert_eq!(quotas.end(7), None);
        assert_eq!(quotas.writers(&name()), Writers::Open);
        assert!(!quotas.finish(&name()));
        assert_eq!(quotas.end(1), Some(name()));
        assert_eq!(quotas.writers(&name()), Writers::None);
        assert!(quotas.finish(&name()) && quotas.is_empty());
    }
}
