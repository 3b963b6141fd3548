//! The reconciler: brings accounts and chroots into agreement with the fleet folder, pass by pass.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bento_protocol::HostName;
use jiff::Timestamp;
use tracing::debug;

use super::PassResult;
use super::accounts::AccountManager;
use super::debounce::{HostDebounce, Since};
use super::fleet_in_force::FleetInForce;
use super::pass::Pass;
use crate::daemon::problems::{ProblemSource, Problems};
use crate::fleet::{FILE_NAME, Fleet};
use crate::generation::DigestCache;
use crate::problem::Problem;
use crate::publication::{self, Publications};
use crate::release::{FolderRecord, Forgotten};
use crate::scan::{FleetFolder, Listings};
use crate::sshd::{HostKey, Login};
use crate::store::accounts::Accounts;
use crate::store::atomic_file;
use crate::store::paths::{HostState, State};

/// The state between the passes.
#[derive(Debug)]
pub(in crate::daemon) struct Reconciler {
    config: PathBuf,
    pub(super) state: State,
    pub(super) settings: FleetInForce,
    pub(super) account_manager: AccountManager,
    pub(super) debounce: BTreeMap<HostName, HostDebounce>,
    /// The files that the last scan found.
    pub(super) listings: Listings,
    /// Whether git has locked its index.
    git_lock: Since,
    pub(super) digests: DigestCache,
    pub(super) problems: Arc<Problems>,
}

impl Reconciler {
    /// Begins with what the state holds, and removes what an interrupted publication left behind.
    pub(in crate::daemon) fn new(
        config: PathBuf,
        state: State,
        problems: Arc<Problems>,
    ) -> io::Result<Self> {
        fs::create_dir_all(state.hosts())?;
        fs::create_dir_all(state.removed())?;
        atomic_file::remove_asides(state.root())?;
        let settings = FleetInForce::new(&state)?;
        let account_manager = AccountManager::new(state.clone(), Arc::clone(&problems))?;
        for name in account_manager.accounts().names() {
            log_failed_removal(name, Publications::of(&state.host(name)).remove_leftovers());
        }
        Ok(Reconciler {
            config,
            state,
            settings,
            account_manager,
            debounce: BTreeMap::new(),
            listings: Listings::default(),
            git_lock: Since::default(),
            digests: DigestCache::default(),
            problems,
        })
    }

    /// The fleet in force.
    pub(super) fn fleet(&self) -> Option<&Fleet> {
        self.settings.fleet.as_ref()
    }

    /// The accounts as the state holds them.
    pub(in crate::daemon) fn accounts(&self) -> &Accounts {
        self.account_manager.accounts()
    }

    /// The accounts that may log in, by the fleet in force.
    pub(super) fn logins(&self) -> Vec<Login> {
        let logins = self.fleet().map(|fleet| self.account_manager.logins(fleet));
        logins.unwrap_or_default()
    }

    /// Reads the settings, and adds and removes accounts. Returns the fleet folder if it may be published now.
    ///
    /// Where the state can't be used, such as on a full disk, the publications stay, and the next pass tries again; a
    /// removed machine has no login, all the same.
    pub(super) fn refresh(
        &mut self,
        now: Timestamp,
        instant: Instant,
        result: &mut PassResult,
    ) -> Option<FleetFolder> {
        let folder = FleetFolder::open(&self.config);
        result.unstable = self.settings.refresh(&folder, instant);
        if let Err(error) = self.settings.save(&self.state) {
            result.problems.push(self.unwritable(&error));
        }
        // Before git is done, the folder holds neither the old commit nor the new one.
        let find = |folder: &FleetFolder| folder.find(GIT_LOCK.as_ref());
        let is_locked = folder.as_ref().is_ok_and(|folder| find(folder).is_ok());
        let is_lock_stale = self.git_lock.is_overdue(is_locked, instant);
        self.set_settings_problems(is_lock_stale);
        let fleet = self.settings.fleet.as_ref()?;
        let forgotten = |name: &HostName| {
            let record = Forgotten::of(folder.as_ref().ok()?, name);
            record.ok()?.map(|forgotten| forgotten.at)
        };
        match self.account_manager.enrol(fleet, forgotten, now) {
            Ok(removed) => removed
                .iter()
                .for_each(|name| _ = self.debounce.remove(name)),
            Err(error) => result.problems.push(unwritable(&self.state, &error)),
        }
        result.failed = !self.account_manager.create_chroots(fleet);
        result.unstable |= is_locked;
        // Settings that are about to change may hold a publication back.
        folder.ok().filter(|_| !result.unstable)
    }

    /// Publishes what is new and stable in the fleet folder.
    pub(super) fn publish(
        &mut self,
        folder: &FleetFolder,
        now: Timestamp,
        instant: Instant,
        result: &mut PassResult,
    ) {
        if let Some(fleet) = self.settings.fleet.clone() {
            let pass = Pass {
                reconciler: self,
                fleet: &fleet,
                folder,
                now,
                instant,
                changed: Vec::new(),
                result,
            };
            pass.run();
        }
    }

    fn set_settings_problems(&self, is_git_lock_stale: bool) {
        // The problems of a machine in the fleet are set with its publication.
        let fleet = self.fleet();
        let in_fleet = |name: &HostName| fleet.is_some_and(|fleet| fleet.hosts.contains_key(name));
        let of_fleet = |problem: &&Problem| !problem.host.as_ref().is_some_and(in_fleet);
        let problems = self.settings.problems.iter().filter(of_fleet).cloned();
        let problems = problems.chain(is_git_lock_stale.then(stale_git_lock));
        let problems = problems.chain(self.other_host_key());
        self.problems
            .set(ProblemSource::Settings, problems.collect());
    }

    /// The problem with a host key that the settings don't list: the appliance couldn't start again. Set while it still
    /// runs, and machines still know the key.
    fn other_host_key(&self) -> Option<Problem> {
        let pinned = &self.fleet()?.server.host_keys;
        let key = (!pinned.is_empty()).then(|| HostKey::read_unchecked(&self.state))?;
        let error = key.and_then(|key| key.require(pinned)).err()?;
        let advice = "the appliance wouldn't start again";
        Some(Problem::new(FILE_NAME, format!("{error:#}"), advice))
    }

    /// The problem with a state that can't be written.
    pub(super) fn unwritable(&self, error: &io::Error) -> Problem {
        unwritable(&self.state, error)
    }
}

/// The file that exists while git changes the folder.
const GIT_LOCK: &str = ".git/index.lock";

fn stale_git_lock() -> Problem {
    Problem::new(
        GIT_LOCK,
        "has been there for over a minute, and nothing is published before it goes",
        "if git isn't at work there any more, remove it",
    )
}

/// The problem with a state that can't be written.
pub(super) fn unwritable(state: &State, error: &io::Error) -> Problem {
    Problem::of_state(state.root(), "can't be written", error)
}

/// Removes what an unfinished publication left behind.
pub(super) fn remove_unfinished(state: &HostState, name: &HostName) {
    log_failed_removal(name, Publications::of(state).remove_unfinished());
}

/// Makes space on a full disk by removing the kept configurations. False if that wasn't the error, or there were none.
pub(super) fn made_room(state: &State, error: &io::Error) -> bool {
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    is_full && publication::make_room(state).is_ok_and(|made| made)
}

/// Logs a failed removal, and no more: it makes the next publication fail, which is a problem then.
fn log_failed_removal(name: &HostName, removed: io::Result<()>) {
    if let Err(error) = removed {
        debug!(host = %name, "an unfinished publication can't be removed: {error}");
    }
}

#[cfg(test)]
mod tests;
