//! Which machine has which account.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bento_protocol::HostName;
use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::session::accounts::UIDS;
use crate::state::State;

/// The machines that have an account, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolments {
    /// The user id that was given last, so that a removed machine's id comes again as late as possible.
    last_uid: u32,
    hosts: BTreeMap<HostName, Enrolment>,
    /// User ids of removed machines of which a session or a file may still be there: nobody else's until
    /// [`Self::release`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    leaving: BTreeSet<u32>,
}

/// A machine's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Its user id, and its group's id.
    pub uid: u32,
    /// When it was enrolled; a name that is removed and added again is a new enrolment.
    pub since: Timestamp,
}

impl Enrolments {
    /// Nobody, and a place in [`UIDS`] after which the first id is looked for. A machine sees its id in the attributes
    /// of its files: a place that differs from state to state tells it nothing about how many were before it.
    pub fn beginning_after(place: u32) -> Self {
        Enrolments {
            last_uid: UIDS.start + place % (UIDS.end - UIDS.start),
            hosts: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// What the state holds; a random beginning if it holds nothing.
    pub fn read(state: &State) -> io::Result<Self> {
        match durable::read_json(&state.enrolments())? {
            Some(enrolments) => Ok(enrolments),
            None => {
                let mut place = [0; 4];
                // At most 256 bytes come whole or not at all.
                getrandom(&mut place, GetRandomFlags::empty())?;
                Ok(Self::beginning_after(u32::from_ne_bytes(place)))
            }
        }
    }

    /// Keeps them in the state.
    pub fn write(&self, state: &State) -> io::Result<()> {
        durable::write_json(&state.enrolments(), self)
    }

    /// The account of a machine, new if it has none. None when every id is taken.
    pub fn enrol(&mut self, name: &HostName, now: Timestamp) -> Option<u32> {
        if let Some(enrolment) = self.hosts.get(name) {
            return Some(enrolment.uid);
        }
        let taken: BTreeSet<u32> = self.accounts().map(|(_, uid)| uid).collect();
        let after = self.last_uid + 1;
        let uid = (after..UIDS.end)
            .chain(UIDS.start..after.min(UIDS.end))
            .find(|uid| !taken.contains(uid) && !self.leaving.contains(uid))?;
        self.last_uid = uid;
        self.hosts
            .insert(name.clone(), Enrolment { uid, since: now });
        Some(uid)
    }

    /// Takes a machine's account away. Its user id is given to nobody until it is released.
    pub fn remove(&mut self, name: &HostName) {
        if let Some(enrolment) = self.hosts.remove(name) {
            self.leaving.insert(enrolment.uid);
        }
    }

    /// The user ids that removed machines had and that aren't released yet.
    pub fn leaving(&self) -> impl Iterator<Item = u32> {
        self.leaving.iter().copied()
    }

    /// Nothing is left of the removed machine that had this user id: neither a session nor a file.
    pub fn release(&mut self, uid: u32) {
        self.leaving.remove(&uid);
    }

    /// A machine's account.
    pub fn get(&self, name: &HostName) -> Option<&Enrolment> {
        self.hosts.get(name)
    }

    /// Whose account a user id is.
    pub fn name(&self, uid: u32) -> Option<&HostName> {
        self.hosts
            .iter()
            .find(|(_, enrolment)| enrolment.uid == uid)
            .map(|(name, _)| name)
    }

    /// Every machine that has an account, with its user id.
    pub fn accounts(&self) -> impl Iterator<Item = (&HostName, u32)> {
        let hosts = self.hosts.iter();
        hosts.map(|(name, enrolment)| (name, enrolment.uid))
    }

    /// Every machine that has an account.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const SIZE: u32 = UIDS.end - UIDS.start;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn a_removed_machines_id_comes_again_last() {
        let mut enrolments = Enrolments::beginning_after(SIZE - 3);
        let last = UIDS.end - 1;
        assert_eq!(enrolments.enrol(&name("a"), NOW), Some(last - 1));
        assert_eq!(enrolments.enrol(&name("a"), NOW), Some(last - 1));
        assert_eq!(enrolments.enrol(&name("b"), NOW), Some(last));
        enrolments.remove(&name("a"));
        enrolments.release(last - 1);
        assert_eq!(enrolments.enrol(&name("c"), NOW), Some(UIDS.start));
        assert_eq!(enrolments.name(UIDS.start), Some(&name("c")));
        enrolments.last_uid = last - 2;
        assert_eq!(enrolments.enrol(&name("d"), NOW), Some(last - 1));
    }

    #[test]
    fn the_id_of_who_is_still_leaving_is_nobodys_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        // Every id is taken but the last.
        let mut enrolments = Enrolments::beginning_after(SIZE - 2);
        for uid in UIDS.start..UIDS.end - 1 {
            let enrolment = Enrolment { uid, since: NOW };
            enrolments.hosts.insert(name(&format!("m{uid}")), enrolment);
        }
        assert_eq!(enrolments.enrol(&name("a"), NOW), Some(UIDS.end - 1));
        assert_eq!(enrolments.enrol(&name("b"), NOW), None, "all are taken");
        let gone = UIDS.start + 7;
        enrolments.remove(&name(&format!("m{gone}")));
        assert_eq!(enrolments.name(gone), None);
        assert_eq!(enrolments.enrol(&name("b"), NOW), None);
        enrolments.write(&state).unwrap();
        let mut enrolments = Enrolments::read(&state).unwrap();
        assert_eq!(enrolments.leaving().collect::<Vec<_>>(), [gone]);
        assert_eq!(enrolments.enrol(&name("b"), NOW), None);
        enrolments.release(gone);
        assert_eq!(enrolments.enrol(&name("b"), NOW), Some(gone));
    }

    #[test]
    fn the_first_id_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        let first = |_| {
            let mut enrolments = Enrolments::read(&state).unwrap();
            enrolments.enrol(&name("a"), NOW).unwrap()
        };
        // That ten random ones are all the same doesn't happen in the lifetime of this project.
        let firsts: BTreeSet<_> = (0..10).map(first).collect();
        assert!(firsts.len() > 1, "{firsts:?}");
        for place in [0, SIZE - 1, SIZE, u32::MAX] {
            let mut enrolments = Enrolments::beginning_after(place);
            assert!(UIDS.contains(&enrolments.enrol(&name("a"), NOW).unwrap()));
        }
    }
}
