//! The stable path at which services find their secrets.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bento_nix::process;
use bento_protocol::{File, FilePath, GenerationId};

use crate::generation::staged;
use crate::settings::{RestartUnits, UnitName};
use crate::state::State;
use crate::state::atomic_file;

/// Switches the stable path to the secrets of a generation, all in one step; without a generation it is removed.
pub(crate) fn switch_to(state: &State, id: Option<&GenerationId>) -> anyhow::Result<()> {
    let link = state.secrets();
    let Some(id) = id.filter(|id| state.secrets_of(id).is_dir()) else {
        return atomic_file::remove(&link);
    };
    // Relative, so that a state folder that was moved still works.
    let target: PathBuf = match state.secrets_folder().file_name() {
        Some(folder) => Path::new(folder).join(id.to_string()),
        None => state.secrets_of(id),
    };
    if std::fs::read_link(&link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    atomic_file::point(&link, &target)
}

/// The secrets in which two generations differ.
pub(crate) fn changed(
    state: &State,
    from: Option<&GenerationId>,
    to: &GenerationId,
) -> anyhow::Result<BTreeSet<FilePath>> {
    let of = |id: Option<&GenerationId>| -> anyhow::Result<_> {
        let staged = id.map(|id| staged::find(state, id)).transpose()?;
        let secrets = staged
            .flatten()
            .map(|staged| staged.secrets())
            .transpose()?;
        Ok(secrets.into_iter().flatten())
    };
    let (mut from, mut to) = (of(from)?, of(Some(to))?);
    let (mut old, mut new) = (from.next().transpose()?, to.next().transpose()?);
    let mut changed = BTreeSet::new();
    // Both lists are sorted, and may be too long for the memory.
    loop {
        let (order, path) = match (&old, &new) {
            (None, None) => return Ok(changed),
            (Some(old), None) => (Ordering::Less, &old.path),
            (None, Some(new)) => (Ordering::Greater, &new.path),
            (Some(old), Some(new)) => (old.path.cmp(&new.path), (&old.path).min(&new.path)),
        };
        let digest = |file: &Option<File>| file.as_ref().map(|file| file.sha256);
        if order.is_ne() || digest(&old) != digest(&new) {
            changed.insert(path.clone());
        }
        if order.is_le() {
            old = from.next().transpose()?;
        }
        if order.is_ge() {
            new = to.next().transpose()?;
        }
    }
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
    let status = process::run(command, line).context("can't restart units")?;
    if !status.success() {
        let units: Vec<_> = units.into_iter().collect();
        bail!(
            "not all of the units that are named for changed secrets could be restarted: {}",
            units.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::archive::tests::{ArchiveEnv, generation};
    use crate::publisher::Content;

    #[test]
    fn secrets_that_come_go_or_differ_have_changed() {
        let env = ArchiveEnv::new();
        let stage = |contents: &[(&str, &str)]| {
            let contents = contents
                .iter()
                .map(|(path, bytes)| Content::new(path, *bytes));
            env.stage(&generation(&contents.collect::<Vec<_>>())).id()
        };
        let old = stage(&[
            ("config/a", "1"),
            ("secrets/a", "1"),
            ("secrets/b", "1"),
            ("secrets/c", "1"),
            ("secrets/e", "1"),
        ]);
        let new = stage(&[
            ("config/a", "2"),
            ("secrets/0", "1"),
            ("secrets/b", "2"),
            ("secrets/c", "1"),
            ("secrets/d/e", "1"),
            ("secrets/e", "1"),
            ("secrets/f", "1"),
        ]);
        let changed = |from, to| {
            let changed = changed(&env.state, from, to).unwrap();
            changed.iter().map(FilePath::to_string).collect::<Vec<_>>()
        };
        let all = ["0", "a", "b", "d/e", "f"].map(|name| format!("secrets/{name}"));
        assert_eq!(changed(Some(&old), &new), all);
        assert_eq!(changed(Some(&new), &old), all);
        assert_eq!(changed(Some(&old), &old), [""; 0]);
        assert_eq!(changed(None, &old).len(), 4);
    }
}
