//! The trial of an appliance: the requirements after a crash at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bento_appliance::store::paths::{HostState, State};
use bento_protocol::chroot;

use crate::appliance::Appliance;
use crate::client::pull;
use crate::env::CrashEnv;
use crate::inspection::{Has, inspect};
use crate::listing::listing;

/// The machine of every fleet.
const MACHINE: &str = "kikimora";

/// The start of an appliance, its state and fleet folder, and the result without a crash.
pub struct Trial<'a> {
    env: &'a CrashEnv,
    config: &'a Path,
    pub old: &'a State,
    before: BTreeMap<String, Has>,
    after: BTreeMap<String, Has>,
    listing: BTreeSet<String>,
}

impl<'a> Trial<'a> {
    /// Runs an appliance without a crash.
    pub fn new(env: &'a CrashEnv, config: &'a Path, old: &'a State) -> Self {
        let undisturbed = Appliance::new(env, config, env.copy(old.root(), "undisturbed"));
        undisturbed.run_until_ready();
        Trial {
            env,
            config,
            old,
            before: inspect(old).unwrap(),
            after: inspect(&undisturbed.state).unwrap(),
            listing: listing(&undisturbed.state).unwrap(),
        }
    }

    /// An appliance on a copy of the state.
    pub fn appliance(&self) -> Appliance<'a> {
        self.on(&self.env.copy(self.old.root(), "state"))
    }

    /// An appliance with this state.
    pub fn on(&self, state: &Path) -> Appliance<'a> {
        Appliance::new(self.env, self.config, state)
    }

    /// Checks the state of a dead appliance: every machine must be wholly old or wholly new.
    pub fn inspect(&self, state: &State) -> Result<BTreeMap<String, Has>> {
        let found = inspect(state)?;
        for (name, has) in &found {
            let of = |all: &BTreeMap<_, _>| all.get(name).copied().unwrap_or(Has::Nothing);
            let [old, new] = [&self.before, &self.after].map(of);
            let is_half_enrolled = old == Has::Nothing && *has == Has::Inbox;
            ensure!(
                *has == old || *has == new || is_half_enrolled,
                "{name} has {has:?}"
            );
        }
        Ok(found)
    }

    /// Starts an appliance on the state of a dead one: it must publish the new fleet, and have exactly the files of one
    /// without a crash.
    pub fn restart(&self, state: &Path) -> Result<()> {
        let appliance = self.on(state);
        let running = appliance.start();
        running.await_event("ready");
        let pulled = pull(self.env, &appliance.state, MACHINE, chroot::BUNDLE)?;
        drop(running);
        let current = appliance.state.host(&MACHINE.parse()?).current();
        let bundle = fs::read(current.join(chroot::BUNDLE.trim_start_matches('/')))?;
        ensure!(pulled == bundle, "another bundle was served");
        let found = inspect(&appliance.state)?;
        ensure!(found == self.after, "{found:?}");
        for entry in fs::read_dir(appliance.state.removed())? {
            for left in fs::read_dir(entry?.path())? {
                let path = left?.path();
                let outlasts = HostState::OUTLAST.iter().any(|name| path.ends_with(name));
                ensure!(outlasts, "{} was kept", path.display());
            }
        }
        let found = listing(&appliance.state)?;
        let [more, fewer] = [
            found.difference(&self.listing),
            self.listing.difference(&found),
        ]
        .map(Vec::from_iter);
        ensure!(
            more.is_empty() && fewer.is_empty(),
            "left {more:#?}, missing {fewer:#?}"
        );
        Ok(())
    }

    /// Starts an appliance on the state of a dead one, with the old fleet folder: it must return to the old fleet, and leave
    /// nothing of the new one.
    pub fn take_back(&self, state: &State, config: &Path) -> Result<()> {
        let copy = self.env.copy(state.root(), "taken-back");
        let appliance = Appliance::new(self.env, config, copy);
        appliance.run_until_ready();
        let found = inspect(&appliance.state)?;
        ensure!(found == self.before, "{found:?}");
        let found = listing(&appliance.state)?;
        let left = crate::listing::debris(&found);
        ensure!(left.is_empty(), "left {left:#?}");
        Ok(())
    }
}

/// Fails the test, with the step.
pub fn require<T>(result: Result<T>, when: &str) -> T {
    result
        .context(when.to_owned())
        .unwrap_or_else(|error| panic!("{error:?}"))
}
