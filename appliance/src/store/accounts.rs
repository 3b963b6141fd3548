//! Which machine has which account.

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

/// How long a removed machine can come back as the same one.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The machines that have an account, by name, and those that had one within the last [`KEPT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// The user id that was given last, so that a removed machine's id comes again as late as possible.
    last_uid: u32,
    hosts: BTreeMap<HostName, AccountRecord>,
    /// User ids of removed machines of which a session or a published file may still be there: nobody else's until
    /// [`Self::release`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    leaving: BTreeSet<u32>,
    /// Machines that were removed, and can come back as they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removed: BTreeMap<HostName, Removed>,
}

/// A machine's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Its user id, and its group's id.
    pub uid: u32,
    /// When it was enrolled; a name that is removed, and added again with another key, is a new account.
    pub since: Timestamp,
    /// The keys that let it in, by which it is known when it comes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<PublicKey>,
}

/// The account that a removed machine had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What it was; nobody else gets its user id meanwhile.
    #[serde(flatten)]
    account: AccountRecord,
    /// When it was removed.
    pub at: Timestamp,
}

impl Removed {
    /// Whether one of these keys let it in.
    pub fn had_one_of(&self, keys: &[PublicKey]) -> bool {
        keys.iter().any(|key| self.account.keys.contains(key))
    }
}

impl Accounts {
    /// Nobody, and a place in [`UIDS`] after which the first id is looked for. A machine sees its id in the attributes
    /// of its files: a place that differs from state to state tells it nothing about how many were before it.
    pub fn beginning_after(place: u32) -> Self {
        Accounts {
            last_uid: UIDS.start + place % (UIDS.end - UIDS.start),
            hosts: BTreeMap::new(),
            leaving: BTreeSet::new(),
            removed: BTreeMap::new(),
        }
    }

    /// What the state holds; a random beginning if it holds nothing.
    pub fn read(state: &State) -> io::Result<Self> {
        match atomic_file::read_json(&state.accounts())? {
            Some(accounts) => Ok(accounts),
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
        atomic_file::write_json(&state.accounts(), self)
    }

    /// The account of a machine, new if it has none. None when every id is taken.
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

    /// Gives a removed machine the account that it had. False if there was none of this name that one of these keys let
    /// in: then it is another machine.
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

    /// Takes note of the keys that let a machine in.
    pub fn set_keys(&mut self, name: &HostName, keys: &[PublicKey]) {
        if let Some(account) = self.hosts.get_mut(name) {
            account.keys = keys.to_vec();
        }
    }

    /// Since when a machine that was renamed is enrolled: what it said by its former name is its own.
    pub fn carry_over(&mut self, former: &HostName, name: &HostName) {
        let since = self.hosts.get(former).map(|account| account.since);
        if let (Some(since), Some(account)) = (since, self.hosts.get_mut(name)) {
            account.since = since;
        }
    }

    /// Takes a machine's account away. It can come back within [`KEPT`].
    pub fn remove(&mut self, name: &HostName, now: Timestamp) {
        if let Some(account) = self.hosts.remove(name) {
            self.leaving.insert(account.uid);
            let removed = Removed { account, at: now };
            self.removed.insert(name.clone(), removed);
        }
    }

    /// The machines that were removed and can come back.
    pub fn removed(&self) -> impl Iterator<Item = (&HostName, &Removed)> {
        self.removed.iter()
    }

    /// Whether a removed machine can come back.
    pub fn is_kept(&self, name: &HostName) -> bool {
        self.removed.contains_key(name)
    }

    /// Forgets the machines that were removed longer than [`KEPT`] ago, and those of which this says that they were to be
    /// forgotten at a time after they were enrolled.
    pub fn forget(&mut self, now: Timestamp, forgotten: impl Fn(&HostName) -> Option<Timestamp>) {
        self.removed.retain(|name, removed| {
            let age = Duration::try_from(now.duration_since(removed.at));
            let is_over = age.is_ok_and(|age| age >= KEPT);
            !is_over && forgotten(name).is_none_or(|at| at < removed.account.since)
        });
    }

    /// The user ids that removed machines had and that aren't released yet.
    pub fn leaving(&self) -> impl Iterator<Item = u32> {
        self.leaving.iter().copied()
    }

    /// Nothing is left of the removed machine that had this user id: neither a session nor a published file.
    pub fn release(&mut self, uid: u32) {
        self.leaving.remove(&uid);
    }

    /// A machine's account.
    pub fn get(&self, name: &HostName) -> Option<&AccountRecord> {
        self.hosts.get(name)
    }

    /// Whose account a user id is.
    pub fn name(&self, uid: u32) -> Option<&HostName> {
        self.hosts
            .iter()
            .find(|(_, account)| account.uid == uid)
            .map(|(name, _)| name)
    }

    /// Every machine that has an account, with its user id.
    pub fn all(&self) -> impl Iterator<Item = (&HostName, u32)> {
        let hosts = self.hosts.iter();
        hosts.map(|(name, account)| (name, account.uid))
    }

    /// Every machine that has an account.
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

    /// When nobody who was removed can come back any more.
    fn later() -> Timestamp {
        NOW + WEEK
    }

    // Issue 10, line 13.
    #[test]
    fn who_comes_back_within_a_week_with_one_of_its_keys_is_the_same() {
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
        // Its user id is nobody else's meanwhile, also when its sessions have ended and there is no other.
        accounts.release(uid);
        for other in UIDS.filter(|other| *other != uid) {
            accounts.give(&name(&format!("m{other}")), other);
        }
        assert_eq!(accounts.enrol(&name("late"), NOW), None);
        let mut again = accounts.clone();
        assert!(again.bring_back(&name("a"), one));
        assert_eq!(again.get(&name("a")).unwrap().uid, uid);
        // To be forgotten counts for who was enrolled before that.
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
        // Who comes with another key is new, and nothing is kept of the one before.
        let mut other = before;
        other.remove(&name("a"), removed_at);
        assert_ne!(other.enrol(&name("a"), removed_at), Some(uid));
        assert!(!other.is_kept(&name("a")));
    }

    #[test]
    fn a_removed_machines_id_comes_again_last() {
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
    fn the_id_of_who_is_still_leaving_is_nobodys_also_after_a_restart() {
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
    fn the_first_id_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        let first = |_| {
            let mut accounts = Accounts::read(&state).unwrap();
            accounts.enrol(&name("a"), NOW).unwrap()
        };
        // That ten random ones are all the same doesn't happen in the lifetime of this project.
        let firsts: BTreeSet<_> = (0..10).map(first).collect();
        assert!(firsts.len() > 1, "{firsts:?}");
        for place in [0, SIZE - 1, SIZE, u32::MAX] {
            let mut accounts = Accounts::beginning_after(place);
            assert!(UIDS.contains(&accounts.enrol(&name("a"), NOW).unwrap()));
        }
    }
}
