//! The accounts and keys that may log in.

use std::sync::{Arc, Mutex};

use crate::problem::Problem;
use crate::sshd::{Login, Sessions, passwd};
use crate::store::accounts::Accounts;
use crate::store::paths::Runtime;

/// The logins in force.
pub(super) struct Logins {
    runtime: Runtime,
    sessions: Sessions,
    /// The accounts by which the main thread and the intake know whose session is whose.
    shared_accounts: Arc<Mutex<Accounts>>,
    /// None before the first pass.
    current: Option<Vec<Login>>,
}

impl Logins {
    pub(super) fn new(
        runtime: Runtime,
        sessions: Sessions,
        shared_accounts: Arc<Mutex<Accounts>>,
    ) -> Self {
        Logins {
            runtime,
            sessions,
            shared_accounts,
            current: None,
        }
    }

    /// Revokes the accounts and keys that aren't among these, and adds none; but in the first pass it adds all, because
    /// most machines have a generation since before the appliance started.
    pub(super) fn revoke_others(
        &mut self,
        logins: &[Login],
        accounts: &Accounts,
    ) -> Result<(), Problem> {
        let Some(current) = &self.current else {
            return self.set(logins.to_vec(), accounts);
        };
        let remaining = |login: &Login| {
            let old = current.iter().find(|old| old.uid == login.uid)?;
            let mut login = login.clone();
            login.keys.retain(|key| old.keys.contains(key));
            Some(login)
        };
        self.set(logins.iter().filter_map(remaining).collect(), accounts)
    }

    /// Makes exactly these the logins. Sessions of an account that is gone, or lost a key, are ended.
    pub(super) fn set(&mut self, logins: Vec<Login>, accounts: &Accounts) -> Result<(), Problem> {
        if self.current.as_ref() == Some(&logins) {
            return Ok(());
        }
        passwd::write(&self.runtime, &logins).map_err(|error| self.unwritable(&error))?;
        if let Ok(mut shared) = self.shared_accounts.lock() {
            shared.clone_from(accounts);
        }
        let uids = logins.iter().map(|login| login.uid);
        self.sessions.allow(uids.collect());
        for old in self.current.take().into_iter().flatten() {
            let new = logins.iter().find(|login| login.uid == old.uid);
            // The sessions of an account that is gone have ended with it.
            if new.is_some_and(|new| !old.keys.iter().all(|key| new.keys.contains(key))) {
                self.sessions.end_account(old.uid);
            }
        }
        self.current = Some(logins);
        Ok(())
    }

    fn unwritable(&self, error: &anyhow::Error) -> Problem {
        Problem::new(
            self.runtime.root().display().to_string(),
            format!("the accounts that may log in can't be changed: {error:#}"),
            "check the filesystem that is mounted there; bento tries again by itself",
        )
    }
}
