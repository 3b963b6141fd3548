//! Accounts of the machines.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use bento_protocol::HostName;
use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::fleet::PublicKey;
use crate::sshd::passwd::UIDS;
use crate::store::atomic_file;
use crate::store::paths::State;

/// Time in which a removed machine can be added again as the same one.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Accounts of the machines, by name, and of those that were removed within the last [`KEPT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// The last assigned user id, so that a removed machine's id is reused as late as possible.
    last_uid: u32,
    hosts: BTreeMap<HostName, AccountRecord>,
    /// User ids of removed machines that may still have a session or a published file: they aren't reused before
    /// [`Self::release`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    leaving: BTreeSet<u32>,
    /// Removed machines that can be added again as the same ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removed: BTreeMap<HostName, Removed>,
}

/// A machine's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Its user id, which is also the id of its group.
    pub uid: u32,
    /// When it was enrolled; a removed name that is added again with another key is a new account.
    pub since: Timestamp,
    /// Its keys, by which it is recognised when it is added again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<PublicKey>,
}

/// The account of a removed machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The account; its user id isn't reused meanwhile.
    #[serde(flatten)]
    account: AccountRecord,
    /// When it was removed.
    pub at: Timestamp,
}

impl Removed {
    /// Whether it had one of these keys.
    pub fn had_one_of(&self, keys: &[PublicKey]) -> bool {
        keys.iter().any(|key| self.account.keys.contains(key))
    }
}

impl Accounts {
    /// No accounts, with a position in [`UIDS`] for the first id. A machine sees its id in the attributes of its files:
    /// a random position hides the number of machines before it.
    pub fn beginning_after(place: u32) -> Self {
        Accounts {
            last_uid: UIDS.start + place % (UIDS.end - UIDS.start),
            hosts: BTreeMap::new(),
            leaving: BTreeSet::new(),
            removed: BTreeMap::new(),
        }
    }

    /// Reads the accounts from the state; without any, ids begin at a random position.
    pub fn read(state: &State) -> io::Result<Self> {
        match atomic_file::read_json(&state.accounts())? {
            Some(accounts) => Ok(accounts),
            None => {
                let mut place = [0; 4];
                // Up to 256 bytes are read completely or not at all.
                getrandom(&mut place, GetRandomFlags::empty())?;
                Ok(Self::beginning_after(u32::from_ne_bytes(place)))
            }
        }
    }

    /// Writes the accounts to the state.
    pub fn write(&self, state: &State) -> io::Result<()> {
        atomic_file::write_json(&state.accounts(), self)
    }

    /// The user id of a machine, new if it has none; none if every id is taken.
    pub fn enrol(&mut self, name: &HostName, now: Timestamp) -> Option<u32> {
        if let Some(account) = self.hosts.get(name) {
            return Some(account.uid);
        }
        let kept = self.removed.values().map(|removed| removed.account.uid);
        let taken = self.all().map(|(_, uid)| uid).chain(kept);
        let taken: BTreeSet<u32> = taken.collect();
        let after = self.last_uid + 1;
        let uid = (after..UIDS.end)
            .chain(UIDS.start..after.min(UIDS.end))
            .find(|uid| !taken.contains(uid) && !self.leaving.contains(uid))?;
        self.last_uid = uid;
        self.removed.remove(name);
        let account = AccountRecord {
            uid,
            since: now,
            keys: Vec::new(),
        };
        self.hosts.insert(name.clone(), account);
        Some(uid)
    }

    /// Restores the account of a removed machine. False if no removed machine had this name and one of these keys: then
    /// it is another machine.
    pub fn bring_back(&mut self, name: &HostName, keys: &[PublicKey]) -> bool {
        let removed = self.removed.get(name);
        let Some(removed) = removed.filter(|removed| removed.had_one_of(keys)) else {
            return false;
        };
        self.leaving.remove(&removed.account.uid);
        self.hosts.insert(name.clone(), removed.account.clone());
        self.removed.remove(name);
        true
    }

    /// Records the keys of a machine.
    pub fn set_keys(&mut self, name: &HostName, keys: &[PublicKey]) {
        if let Some(account) = self.hosts.get_mut(name) {
            account.keys = keys.to_vec();
        }
    }

    /// Copies the time of enrolment from a renamed machine's former name, whose reports are its own.
    pub fn carry_over(&mut self, former: &HostName, name: &HostName) {
        let since = self.hosts.get(former).map(|account| account.since);
        if let (Some(since), Some(account)) = (since, self.hosts.get_mut(name)) {
            account.since = since;
        }
    }

    /// Removes a machine's account. It can be restored within [`KEPT`].
    pub fn remove(&mut self, name: &HostName, now: Timestamp) {
        if let Some(account) = self.hosts.remove(name) {
            self.leaving.insert(account.uid);
            let removed = Removed { account, at: now };
            self.removed.insert(name.clone(), removed);
        }
    }

    /// The removed machines that can be restored.
    pub fn removed(&self) -> impl Iterator<Item = (&HostName, &Removed)> {
        self.removed.iter()
    }

    /// Whether a removed machine can be restored.
    pub fn is_kept(&self, name: &HostName) -> bool {
        self.removed.contains_key(name)
    }

    /// Drops the machines that were removed longer than [`KEPT`] ago, and those for which `forgotten` returns a time
    /// after their enrolment.
    pub fn forget(&mut self, now: Timestamp, forgotten: impl Fn(&HostName) -> Option<Timestamp>) {
        self.removed.retain(|name, removed| {
            let age = Duration::try_from(now.duration_since(removed.at));
            let is_over = age.is_ok_and(|age| age >= KEPT);
            !is_over && forgotten(name).is_none_or(|at| at < removed.account.since)
        });
    }

    /// User ids of removed machines that aren't released yet.
    pub fn leaving(&self) -> impl Iterator<Item = u32> {
        self.leaving.iter().copied()
    }

    /// Releases the user id of a removed machine that has neither a session nor a published file any more.
    pub fn release(&mut self, uid: u32) {
        self.leaving.remove(&uid);
    }

    /// A machine's account.
    pub fn get(&self, name: &HostName) -> Option<&AccountRecord> {
        self.hosts.get(name)
    }

    /// The machine with this user id.
    pub fn name(&self, uid: u32) -> Option<&HostName> {
        self.hosts
            .iter()
            .find(|(_, account)| account.uid == uid)
            .map(|(name, _)| name)
    }

    /// Every machine with an account, and its user id.
    pub fn all(&self) -> impl Iterator<Item = (&HostName, u32)> {
        let hosts = self.hosts.iter();
        hosts.map(|(name, account)| (name, account.uid))
    }

    /// Every machine with an account.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const SIZE: u32 = UIDS.end - UIDS.start;
    const WEEK: Duration = Duration::from_hours(7 * 24);

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    impl Accounts {
        fn give(&mut self, name: &HostName, uid: u32) {
            let account = AccountRecord {
                uid,
                since: NOW,
                keys: Vec::new(),
            };
            self.hosts.insert(name.clone(), account);
        }
    }

    /// A time when no removed machine can be restored any more.
    fn later() -> Timestamp {
        NOW + WEEK
    }

    // Issue 10, line 13.
    #[test]
    fn a_machine_added_again_within_a_week_with_one_of_its_keys_is_the_same() {
        let keys: Vec<PublicKey> = serde_json::from_value(serde_json::json!([ONE, TWO])).unwrap();
        let (one, two) = (&keys[..1], &keys[1..]);
        let mut accounts = Accounts::beginning_after(0);
        let uid = accounts.enrol(&name("a"), NOW).unwrap();
        accounts.set_keys(&name("a"), one);
        let before = accounts.clone();
        let removed_at = NOW + Duration::from_secs(1);
        accounts.remove(&name("a"), removed_at);
        assert_eq!(accounts.leaving().collect::<Vec<_>>(), [uid]);
        assert!(accounts.get(&name("a")).is_none() && accounts.is_kept(&name("a")));
        assert_eq!(accounts.name(uid), None, "nobody's session");
        // Neither without a key nor with another.
        assert!(!accounts.bring_back(&name("a"), &[]) && !accounts.bring_back(&name("a"), two));
        assert!(
            !accounts.bring_back(&name("b"), one),
            "a name is part of it"
        );
        let mut again = accounts.clone();
        assert!(again.bring_back(&name("a"), &keys));
        assert_eq!(again, before);
        // Its user id isn't reused meanwhile, even if its sessions have ended and no other id is free.
        accounts.release(uid);
        for other in UIDS.filter(|other| *other != uid) {
            accounts.give(&name(&format!("m{other}")), other);
        }
        assert_eq!(accounts.enrol(&name("late"), NOW), None);
        let mut again = accounts.clone();
        assert!(again.bring_back(&name("a"), one));
        assert_eq!(again.get(&name("a")).unwrap().uid, uid);
        // A machine is only forgotten if it was enrolled before that time.
        let forget = |at: Timestamp| move |_: &HostName| Some(at);
        let mut again = accounts.clone();
        again.forget(removed_at, forget(NOW - Duration::from_secs(1)));
        assert!(again.is_kept(&name("a")));
        again.forget(removed_at, forget(NOW));
        assert!(!again.is_kept(&name("a")));
        accounts.forget(removed_at + WEEK - Duration::from_secs(1), |_| None);
        assert!(accounts.is_kept(&name("a")));
        accounts.forget(removed_at + WEEK, |_| None);
        assert!(!accounts.bring_back(&name("a"), one));
        assert_eq!(accounts.enrol(&name("late"), NOW), Some(uid));
        // With another key it is a new machine, and nothing of the old one is kept.
        let mut other = before;
        other.remove(&name("a"), removed_at);
        assert_ne!(other.enrol(&name("a"), removed_at), Some(uid));
        assert!(!other.is_kept(&name("a")));
    }

    #[test]
    fn a_removed_machines_id_is_reused_last() {
        let mut accounts = Accounts::beginning_after(SIZE - 3);
        let last = UIDS.end - 1;
        assert_eq!(accounts.enrol(&name("a"), NOW), Some(last - 1));
        assert_eq!(accounts.enrol(&name("a"), NOW), Some(last - 1));
        assert_eq!(accounts.enrol(&name("b"), NOW), Some(last));
        accounts.remove(&name("a"), NOW);
        accounts.forget(later(), |_| None);
        accounts.release(last - 1);
        assert_eq!(accounts.enrol(&name("c"), NOW), Some(UIDS.start));
        assert_eq!(accounts.name(UIDS.start), Some(&name("c")));
        accounts.last_uid = last - 2;
        assert_eq!(accounts.enrol(&name("d"), NOW), Some(last - 1));
    }

    #[test]
    fn an_unreleased_id_is_not_reused_even_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        // Every id is taken but the last.
        let mut accounts = Accounts::beginning_after(SIZE - 2);
        for uid in UIDS.start..UIDS.end - 1 {
            accounts.give(&name(&format!("m{uid}")), uid);
        }
        assert_eq!(accounts.enrol(&name("a"), NOW), Some(UIDS.end - 1));
        assert_eq!(accounts.enrol(&name("b"), NOW), None, "all are taken");
        let gone = UIDS.start + 7;
        accounts.remove(&name(&format!("m{gone}")), NOW);
        accounts.forget(later(), |_| None);
        assert_eq!(accounts.name(gone), None);
        assert_eq!(accounts.enrol(&name("b"), NOW), None);
        accounts.write(&state).unwrap();
        let mut accounts = Accounts::read(&state).unwrap();
        assert_eq!(accounts.leaving().collect::<Vec<_>>(), [gone]);
        assert_eq!(accounts.enrol(&name("b"), NOW), None);
        accounts.release(gone);
        assert_eq!(accounts.enrol(&name("b"), NOW), Some(gone));
    }

    #[test]
    fn the_first_id_is_random() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        let first = |_| {
            let mut accounts = Accounts::read(&state).unwrap();
            accounts.enrol(&name("a"), NOW).unwrap()
        };
        // Ten equal random ids don't happen in the lifetime of this project.
        let firsts: BTreeSet<_> = (0..10).map(first).collect();
        assert!(firsts.len() > 1, "{firsts:?}");
        for place in [0, SIZE - 1, SIZE, u32::MAX] {
            let mut accounts = Accounts::beginning_after(place);
            assert!(UIDS.contains(&accounts.enrol(&name("a"), NOW).unwrap()));
        }
    }
}
