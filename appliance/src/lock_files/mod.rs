//! `bento flake-update`: updates the lock files of a fleet's flakes.

mod flake;
mod lock;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;
use bento_nix::Version;
use bento_protocol::HostName;

use crate::build::{BuildFolder, Interruption};
use crate::preview::Preview;
use crate::scan::FleetFolder;

pub use flake::Flake;
use lock::Lock;

/// Updates lock files of a fleet folder.
#[derive(Debug)]
pub struct LockUpdater<'a> {
    /// The fleet folder.
    path: &'a Path,
    /// The same, held open.
    folder: &'a FleetFolder,
    nix: Option<Version>,
    build_folder: BuildFolder,
    interruption: Interruption,
}

/// The outcome for a flake's lock file.
#[derive(Debug)]
pub enum LockOutcome {
    /// Updated: each changed input, as text.
    Moved(Vec<String>),
    /// Nothing changed.
    Unchanged,
    /// The flake has none of the given inputs.
    NotAffected,
}

impl<'a> LockUpdater<'a> {
    /// Creates an updater for the fleet folder of a preview.
    ///
    /// # Errors
    /// When its temporary folder can't be created.
    pub fn new(path: &'a Path, preview: &'a Preview) -> anyhow::Result<Self> {
        Ok(LockUpdater {
            path,
            folder: &preview.folder,
            nix: bento_nix::version(),
            interruption: Interruption::watch()?,
            build_folder: BuildFolder::new()?,
        })
    }

    /// Whether an interruption was requested.
    pub fn is_interrupted(&self) -> bool {
        self.interruption.is_requested()
    }

    /// Requires that each of these inputs exists in a flake. A flake with unknown inputs may have any input.
    ///
    /// # Errors
    /// When an input doesn't exist; the error lists the existing ones.
    pub fn require(&self, inputs: &[String], flakes: &mut [Flake<'_>]) -> anyhow::Result<()> {
        if inputs.is_empty() {
            return Ok(());
        }
        for flake in &mut *flakes {
            flake.read_inputs(self);
        }
        let mut locks = Vec::new();
        for flake in &*flakes {
            match flake.inputs() {
                Some(Ok(lock)) => locks.push(lock),
                _ => return Ok(()),
            }
        }
        let is_anywhere = |input: &&String| locks.iter().any(|lock| lock.has(input));
        let Some(missing) = inputs.iter().find(|input| !is_anywhere(input)) else {
            return Ok(());
        };
        let names: BTreeSet<_> = locks.iter().flat_map(|lock| lock.names()).collect();
        match names.is_empty() {
            true => bail!("no flake has an input {missing}: the flakes have no inputs"),
            false => bail!(
                "no flake has an input {missing}: the inputs are {}",
                names.into_iter().collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

/// The distinct flakes of the machines that would be published.
pub fn flakes(preview: &Preview) -> Vec<Flake<'_>> {
    let mut flakes: Vec<Flake<'_>> = Vec::new();
    let hosts = preview.fleet.iter().flat_map(|fleet| &fleet.hosts);
    for (name, host) in hosts {
        let host_preview = preview.machines.get(name).and_then(Option::as_ref);
        let Some(host_preview) = host_preview.filter(|it| it.tree.has_config("flake.nix")) else {
            continue;
        };
        let flake = Flake::of(name, host, host_preview, &preview.folder);
        if let Some(known) = flakes.iter_mut().find(|it| it.is_same(&flake)) {
            known.add_host(name);
            continue;
        }
        let mut flake = flake;
        flakes
            .iter_mut()
            .for_each(|other| flake.mark_conflict(other));
        flakes.push(flake);
    }
    flakes
}

/// The names of the machines that share a flake.
fn named(hosts: &[&HostName]) -> String {
    let names: Vec<_> = hosts.iter().map(|name| name.as_str()).collect();
    names.join(", ")
}
