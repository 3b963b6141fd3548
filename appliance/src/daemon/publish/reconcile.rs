//! From the fleet folder to the chroots: one pass looks at everything and publishes what has changed and settled.

mod pass;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bento_protocol::HostName;
use jiff::Timestamp;
use tracing::debug;

use super::accounts::AccountManager;
use super::debounce::{Delay, TreeSettling};
use super::fleet_in_force::Settings;
use super::host_plan::PassInput;
use crate::daemon::problems::{ProblemSource, Problems};
use crate::fleet::{FILE_NAME, Fleet};
use crate::generation::DigestCache;
use crate::problem::Problem;
use crate::publication::{self, Publications};
use crate::release::{Forgotten, Record};
use crate::scan::{FleetFolder, Listings};
use crate::sshd::{HostKey, Login};
use crate::store::atomic_file;
use crate::store::paths::{HostState, State};

/// Publishes a fleet folder into a state.
#[derive(Debug)]
pub(in crate::daemon) struct Reconciler {
    config: PathBuf,
    state: State,
    settings: Settings,
    pub(in crate::daemon) registrar: AccountManager,
    trees: BTreeMap<HostName, TreeSettling>,
    /// What was found in the last look.
    listings: Listings,
    /// git's lock of its index.
    git: Delay,
    digests: DigestCache,
    problems: Arc<Problems>,
}

/// What a look at the fleet folder found, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// The folder, if it may be published now.
    folder: Option<FleetFolder>,
    /// Something hasn't settled: the next pass should follow after the debounce.
    pub(super) unsettled: bool,
    /// The accounts that there must be now.
    pub(super) logins: Vec<Login>,
    /// What is wrong with the state as a whole.
    pub(super) failures: Vec<Problem>,
    /// The state couldn't be used for something that should have been done.
    pub(super) failed: bool,
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
        let settings = Settings::new(&state)?;
        let registrar = AccountManager::new(state.clone(), Arc::clone(&problems))?;
        for name in registrar.accounts().names() {
            overlook(name, Publications::of(&state.host(name)).remove_debris());
        }
        Ok(Reconciler {
            config,
            state,
            settings,
            registrar,
            trees: BTreeMap::new(),
            listings: Listings::default(),
            git: Delay::default(),
            digests: DigestCache::default(),
            problems,
        })
    }

    /// The fleet in force.
    pub(super) fn fleet(&self) -> Option<&Fleet> {
        self.settings.fleet.as_ref()
    }

    /// How long nothing may change before it counts as stable.
    pub(super) fn debounce(&self) -> Duration {
        self.settings.debounce()
    }

    /// Looks at the settings, and gives and takes accounts. Where the state can't be used, such as on a full disk, what
    /// was published stays published, and the next pass tries again; who lost their account has none, all the same.
    pub(super) fn begin(&mut self, now: Timestamp, instant: Instant) -> Pass {
        let mut pass = Pass::default();
        let folder = FleetFolder::open(&self.config);
        pass.unsettled = self
            .settings
            .refresh(folder.as_ref().map_err(copy_of), instant);
        if let Err(error) = self.settings.save(&self.state) {
            pass.failures.push(self.state_problem(&error));
        }
        // What lies in the folder is neither the old commit nor the new one.
        let git_at_work = folder
            .as_ref()
            .is_ok_and(|folder| folder.find(GIT_LOCK.as_ref()).is_ok());
        let git_stopped = self.git.is_too_long(git_at_work, instant);
        self.tell_of_settings(git_stopped);
        let Some(fleet) = self.settings.fleet.clone() else {
            return pass;
        };
        let forgotten = |name: &HostName| {
            let forgotten = folder
                .as_ref()
                .ok()
                .map(|folder| Forgotten::of(folder, name));
            forgotten?.ok()?.map(|forgotten| forgotten.at)
        };
        match self.registrar.enrol(&fleet, forgotten, now) {
            Ok(gone) => gone.iter().for_each(|name| _ = self.trees.remove(name)),
            Err(error) => pass.failures.push(self.state_problem(&error)),
        }
        pass.failed = !self.registrar.give_chroots(&fleet) || !pass.failures.is_empty();
        pass.logins = self.registrar.logins(&fleet);
        pass.unsettled |= git_at_work;
        // Nor is anything published by settings that are about to be others: they may be what keeps it back.
        pass.folder = folder.ok().filter(|_| !pass.unsettled);
        pass
    }

    /// Publishes what has changed and settled.
    pub(super) fn complete(&mut self, pass: &mut Pass, now: Timestamp, instant: Instant) {
        if let (Some(folder), Some(fleet)) = (pass.folder.take(), self.settings.fleet.clone()) {
            let state = self.state.clone();
            let input = PassInput {
                state: &state,
                fleet: &fleet,
                folder: &folder,
                now,
                instant,
            };
            let progress = self.publish(&input);
            pass.unsettled |= progress.unsettled;
            pass.failed |= progress.failed;
        }
    }

    fn tell_of_settings(&self, is_git_stopped: bool) {
        // A machine of which no good settings are known isn't in the fleet: its problems are told with the fleet's.
        let in_fleet = |name: &HostName| {
            self.fleet()
                .is_some_and(|fleet| fleet.hosts.contains_key(name))
        };
        let of_fleet = |problem: &&Problem| !problem.host.as_ref().is_some_and(in_fleet);
        let problems = self.settings.problems.iter().filter(of_fleet).cloned();
        let problems = problems.chain(is_git_stopped.then(git_stopped));
        let problems = problems.chain(self.other_host_key());
        self.problems
            .set(ProblemSource::Settings, problems.collect());
    }

    /// That the appliance couldn't start again with its key: told while it still runs, and machines still know it.
    fn other_host_key(&self) -> Option<Problem> {
        let pinned = &self.fleet()?.server.host_keys;
        let key = (!pinned.is_empty()).then(|| HostKey::glance(&self.state))?;
        let error = key.and_then(|key| key.require(pinned)).err()?;
        let advice = "the appliance wouldn't start again";
        Some(Problem::new(FILE_NAME, format!("{error:#}"), advice))
    }

    fn state_problem(&self, error: &io::Error) -> Problem {
        unwritable(&self.state, error)
    }
}

/// It is there while git changes what lies in the folder.
const GIT_LOCK: &str = ".git/index.lock";

fn git_stopped() -> Problem {
    Problem::new(
        GIT_LOCK,
        "has been there for over a minute, and nothing is published before it goes",
        "if git isn't at work there any more, remove it",
    )
}

/// The state couldn't be written.
pub(super) fn unwritable(state: &State, error: &io::Error) -> Problem {
    Problem::of_state(state.root(), "can't be written", error)
}

/// Removes what a publication that wasn't finished left behind.
pub(super) fn remove_unfinished(state: &HostState, name: &HostName) {
    overlook(name, Publications::of(state).remove_unfinished());
}

/// Whether room was made on a full disk, by removing what is only kept to be shown.
pub(super) fn made_room(state: &State, error: &io::Error) -> bool {
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    is_full && publication::make_room(state).is_ok_and(|made| made)
}

/// What can't be removed is in the way of the next publication, which tells of it.
fn overlook(name: &HostName, removed: io::Result<()>) {
    if let Err(error) = removed {
        debug!(host = %name, "an unfinished publication can't be removed: {error}");
    }
}

/// The same error again: io::Error can't be cloned.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        io::Error::from_raw_os_error,
    )
}

#[cfg(test)]
mod tests;
