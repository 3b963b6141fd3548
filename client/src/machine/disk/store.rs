use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use bento_nix::process;

use super::free_for_all;
use crate::machine::Machine;
use crate::settings::{ByteSize, Disk};

/// Passes of garbage collection: the disk doesn't always gain what Nix counts as freed, for example if files are shared.
const GARBAGE_ROUNDS: usize = 3;

/// Makes sure, before a build, that as much is free in the Nix store as the settings want. Where it isn't, systems are
/// removed from the system profile, all but the newest [`Disk::keep_systems`], the running one, the booted one, and
/// the one that the profile leads to; then Nix collects as much garbage as is missing. Until a boot loader is
/// installed again, its menu still shows what was removed.
pub fn make_room(disk: &Disk, machine: &Machine, line: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let nix = |program: &str| Command::new(program);
    make_room_in(&machine.store(), &nix, disk, machine, line)
}

/// Removes the systems of the profile that are too many by the settings. Called at each change of the profile, it keeps
/// their number, and so that of the roots of Nix' garbage collector, from growing.
pub fn remove_old_systems(
    disk: &Disk,
    machine: &Machine,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    remove_systems(&|program| Command::new(program), disk, machine, line).map(drop)
}

/// Does so in a store whose Nix is at hand as `nix`.
fn make_room_in(
    store: &Path,
    nix: &dyn Fn(&str) -> Command,
    disk: &Disk,
    machine: &Machine,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let missing = |free: ByteSize| disk.store_free.bytes().saturating_sub(free.bytes());
    let measure = || {
        free_for_all(store).with_context(|| format!("can't see how full {} is", store.display()))
    };
    let before = measure()?;
    if missing(before) == 0 {
        return Ok(());
    }
    line(&format!(
        "only {before} are free in {}, less than {} (disk.store_free): making room",
        store.display(),
        disk.store_free
    ));
    let removed = remove_systems(nix, disk, machine, line)?;
    let mut after = measure()?;
    let mut rounds = 0..if disk.collect_garbage {
        GARBAGE_ROUNDS
    } else {
        0
    };
    while missing(after) > 0 && rounds.next().is_some() {
        collect_garbage(nix, missing(after), line)?;
        after = measure()?;
    }
    if missing(after) == 0 {
        return Ok(());
    }
    bail!(
        "the disk is full: {after} are free in {}, and the settings want {} (disk.store_free). {removed} old systems \
         were removed, and {}. Make room on this disk, or want less",
        store.display(),
        disk.store_free,
        match disk.collect_garbage {
            true => "Nix' garbage was collected",
            false => "Nix' garbage wasn't collected (disk.collect_garbage)",
        }
    )
}

/// Removes old systems from the profile, and gives their number.
fn remove_systems(
    nix: &dyn Fn(&str) -> Command,
    disk: &Disk,
    machine: &Machine,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<usize> {
    let profile = machine.profile();
    let old = old_systems(disk, machine)
        .with_context(|| format!("can't list the systems of {}", profile.display()))?;
    if old.is_empty() {
        return Ok(0);
    }
    let mut command = nix("nix-env");
    command
        .arg("-p")
        .arg(&profile)
        .arg("--delete-generations")
        .args(old.iter().map(u64::to_string));
    let status = process::run(command, line)?;
    if !status.success() {
        bail!(
            "can't remove old systems from {}: nix-env ended with {status}",
            profile.display()
        );
    }
    Ok(old.len())
}

/// The numbers in the profile of the systems that may go, in ascending order.
fn old_systems(disk: &Disk, machine: &Machine) -> std::io::Result<Vec<u64>> {
    let profile = machine.profile();
    let Some(folder) = profile.parent().filter(|folder| folder.is_dir()) else {
        return Ok(Vec::new());
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("system-")?.strip_suffix("-link"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    numbers.truncate(numbers.len().saturating_sub(disk.keep_systems.count()));

    let situation = machine.situation();
    let default = fs::canonicalize(&profile).ok();
    let in_use = [situation.running, situation.booted]
        .map(|system| system.map(|system| system.as_str().into()));
    numbers.retain(|number| {
        let system = fs::canonicalize(folder.join(format!("system-{number}-link"))).ok();
        // One that leads nowhere is good for nothing.
        system.is_none() || (system != default && !in_use.contains(&system))
    });
    Ok(numbers)
}

fn collect_garbage(
    nix: &dyn Fn(&str) -> Command,
    bytes: u64,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let mut command = nix("nix-store");
    command.args(["--gc", "--max-freed", &bytes.to_string()]);
    let status = process::run(command, &mut |text| {
        // It names every path, often thousands; its last line says how much that was.
        if !text.starts_with("deleting '") && !text.starts_with("removing stale ") {
            line(text);
        }
    })?;
    if !status.success() {
        bail!("can't collect Nix' garbage: nix-store --gc ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
