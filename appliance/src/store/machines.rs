//! The machines of a state on disk.

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Context, bail};
use bento_protocol::HostName;
use jiff::Timestamp;

use crate::fleet::{Fleet, Host};
use crate::store::accounts::Accounts;
use crate::store::atomic_file;
use crate::store::paths::State;

/// The machines of the fleet, each with the time of its enrolment; none without an account. Earlier reports belong to
/// another machine that had the same name.
#[derive(Debug)]
pub struct KnownMachines(BTreeMap<HostName, Option<Timestamp>>);

impl KnownMachines {
    /// Reads the machines of the fleet.
    ///
    /// # Errors
    /// When there is no state, or it can't be read.
    pub fn read(state: &State) -> anyhow::Result<Self> {
        let (hosts, accounts) = read_fleet(state)?;
        let names = hosts.into_keys();
        let since = |name: &HostName| accounts.get(name).map(|account| account.since);
        Ok(KnownMachines(
            names.map(|name| (name.clone(), since(&name))).collect(),
        ))
    }

    /// The time of a machine's enrolment.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn since(&self, name: &HostName) -> anyhow::Result<Option<Timestamp>> {
        let since = self.0.get(name).copied();
        since.with_context(|| unknown(name))
    }

    /// These machines with the times of their enrolment; all, if none is named.
    ///
    /// # Errors
    /// When one of them doesn't exist.
    pub fn selection(
        &self,
        names: &[HostName],
    ) -> anyhow::Result<BTreeMap<HostName, Option<Timestamp>>> {
        if names.is_empty() {
            return Ok(self.0.clone());
        }
        let since = |name: &HostName| Ok((name.clone(), self.since(name)?));
        names.iter().map(since).collect()
    }
}

/// The machines of the fleet with their settings, and the accounts.
///
/// # Errors
/// When there is no state, or it can't be read.
pub fn read_fleet(state: &State) -> anyhow::Result<(BTreeMap<HostName, Host>, Accounts)> {
    if !state.root().is_dir() {
        bail!(
            "there is no state in {}: run this in the container, as in `podman exec bento bento …`, or say where it \
             lies with --state",
            state.root().display()
        );
    }
    let fleet: Option<Fleet> = atomic_file::read_json(&state.fleet()).with_context(|| {
        let path = state.fleet();
        format!("the last good fleet, {}, can't be read", path.display())
    })?;
    let accounts = Accounts::read(state).with_context(|| {
        let path = state.accounts();
        format!("the accounts, {}, can't be read", path.display())
    })?;
    let hosts = fleet.map_or_else(BTreeMap::new, |fleet| fleet.hosts);
    Ok((hosts, accounts))
}

/// The former name of a machine that still has an account.
pub fn former<'h>(hosts: &'h BTreeMap<HostName, Host>, name: &HostName) -> Option<&'h HostName> {
    let former = hosts.get(name)?.renamed_from.as_ref()?;
    let account = hosts.get(former)?;
    (account.renamed_to.as_ref() == Some(name)).then_some(former)
}

/// The error for an unknown machine.
pub fn unknown(name: impl Display) -> String {
    format!("there is no machine {name} in the fleet: `bento host list` lists the machines")
}
