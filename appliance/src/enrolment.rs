//! Which machine has which account.

use std::collections::BTreeMap;
use std::io;

use bento_protocol::HostName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::session::accounts::UIDS;
use crate::state::State;

/// The machines that have an account, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolments {
    /// The user id that was given last, so that a removed machine's id comes again as late as possible.
    last_uid: Option<u32>,
    hosts: BTreeMap<HostName, Enrolment>,
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
    /// What the state holds.
    pub fn read(state: &State) -> io::Result<Self> {
        Ok(durable::read_json(&state.enrolments())?.unwrap_or_default())
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
        let after = self.last_uid.map_or(UIDS.start, |uid| uid + 1);
        let uid = (after..UIDS.end)
            .chain(UIDS.start..after.min(UIDS.end))
            .find(|uid| self.name(*uid).is_none())?;
        self.last_uid = Some(uid);
        self.hosts
            .insert(name.clone(), Enrolment { uid, since: now });
        Some(uid)
    }

    /// Takes a machine's account away.
    pub fn remove(&mut self, name: &HostName) {
        self.hosts.remove(name);
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

    /// Every machine that has an account.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_machines_id_comes_again_last() {
        let name = |text: &str| text.parse::<HostName>().unwrap();
        let mut enrolments = Enrolments::default();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(enrolments.enrol(&name("a"), now), Some(UIDS.start));
        assert_eq!(enrolments.enrol(&name("a"), now), Some(UIDS.start));
        assert_eq!(enrolments.enrol(&name("b"), now), Some(UIDS.start + 1));
        enrolments.remove(&name("a"));
        assert_eq!(enrolments.enrol(&name("c"), now), Some(UIDS.start + 2));
        enrolments.last_uid = Some(UIDS.end - 1);
        assert_eq!(enrolments.enrol(&name("d"), now), Some(UIDS.start));
        assert_eq!(enrolments.name(UIDS.start), Some(&name("d")));
    }
}
