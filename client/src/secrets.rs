//! The stable path at which services find their secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bento_protocol::{Digest, FilePath, GenerationId};

use crate::durable;
use crate::generations;
use crate::process;
use crate::settings::{RestartUnits, UnitName};
use crate::state::State;

/// Lets the stable path lead to the secrets of a generation, all of them in one step; of none, the path goes.
pub(crate) fn switch_to(state: &State, id: Option<&GenerationId>) -> anyhow::Result<()> {
    let link = state.secrets();
    let Some(id) = id.filter(|id| state.secrets_of(id).is_dir()) else {
        return durable::remove(&link);
    };
    // Relative, so that a state folder that was moved still works.
    let target: PathBuf = match state.secrets_folder().file_name() {
        Some(folder) => Path::new(folder).join(id.to_string()),
        None => state.secrets_of(id),
    };
    if std::fs::read_link(&link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    durable::point(&link, &target)
}

/// The secrets in which two generations differ.
pub(crate) fn changed(
    state: &State,
    from: Option<&GenerationId>,
    to: &GenerationId,
) -> anyhow::Result<BTreeSet<FilePath>> {
    let of = |id: Option<&GenerationId>| -> anyhow::Result<BTreeMap<FilePath, Digest>> {
        let staged = id.map(|id| generations::find(state, id)).transpose()?;
        staged
            .flatten()
            .map_or(Ok(BTreeMap::new()), |staged| staged.secrets())
    };
    let (from, to) = (of(from)?, of(Some(to))?);
    let paths = from.keys().chain(to.keys());
    Ok(paths
        .filter(|path| from.get(*path) != to.get(*path))
        .cloned()
        .collect())
}

/// Restarts the units that are named for any of these secrets, where they run.
pub(crate) fn restart_units(
    named: &RestartUnits,
    changed: &BTreeSet<FilePath>,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let units: BTreeSet<_> = changed
        .iter()
        .flat_map(|path| named.of(path))
        .map(UnitName::as_str)
        .collect();
    if units.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("systemctl");
    command.arg("try-restart").args(&units);
    let status = process::run(command, None, line).context("can't restart units")?;
    if !status.success() {
        let units: Vec<_> = units.into_iter().collect();
        bail!(
            "not all of the units that are named for changed secrets could be restarted: {}",
            units.join(", ")
        );
    }
    Ok(())
}
