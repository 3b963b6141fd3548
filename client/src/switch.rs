//! A system's own switch-to-configuration, run so that it outlives whoever asked for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, anyhow, bail};
use bento_nix::activation::exit_codes::{BUSY, NEEDS_BOOT, SOME_UNITS_FAILED};
use bento_nix::activation::{self, meaning};
use bento_nix::process;
use bento_protocol::{RunId, SystemPath};

use crate::durable;
use crate::machine::Machine;
use crate::state::State;

/// What a system is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To run now, and not to be booted.
    Test,
    /// To be booted, and not to run now.
    Boot,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Action::Test => "test",
            Action::Boot => "boot",
        }
    }

    /// What it is for, in words for a message.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Action::Test => "switch to",
            Action::Boot => "boot from now on into",
        }
    }
}

/// What a switch came to, when it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// All is as it should be.
    Wholly,
    /// The system runs, but some of its units failed.
    SomeUnitsFailed,
}

/// Why a switch didn't come about.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// Another one is going on; nothing was changed.
    #[error("another switch of the system is going on")]
    Busy,
    /// The running init can't become that of the new system, which can only be booted; nothing was changed.
    #[error("the new system's init differs from the running one: it can only be booted")]
    NeedsBoot,
    /// It failed on the way, and may have changed anything.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Runs switch-to-configuration to its end, in a unit of its own where there is systemd.
pub(crate) fn switch(
    machine: &Machine,
    state: &State,
    run: RunId,
    system: &SystemPath,
    action: Action,
    line: &mut dyn FnMut(&str),
) -> Result<Switched, SwitchError> {
    let status = if machine.has_systemd() {
        in_unit(state, run, system, action, line)
    } else {
        in_process_group(state, system, action, line)
    };
    match status.map_err(SwitchError::Failed)? {
        status if status.success() => Ok(Switched::Wholly),
        status if status.code() == Some(SOME_UNITS_FAILED) => Ok(Switched::SomeUnitsFailed),
        status if status.code() == Some(BUSY) => Err(SwitchError::Busy),
        status if status.code() == Some(NEEDS_BOOT) => Err(SwitchError::NeedsBoot),
        status => Err(SwitchError::Failed(anyhow!(
            "switch-to-configuration {} {}",
            action.as_str(),
            meaning(status)
        ))),
    }
}

/// Ends a switch that was left going on, and waits until it has ended.
pub(crate) fn stop(machine: &Machine, state: &State, run: RunId) -> anyhow::Result<()> {
    if machine.has_systemd() {
        // Units that aren't there any more have been stopped.
        Command::new("systemctl")
            .args(["stop", "--quiet", &format!("{}*", unit_prefix(run))])
            .stderr(Stdio::null())
            .status()
            .context("can't run systemctl")?;
        return Ok(());
    }
    let path = state.switching();
    if let Some(group) = durable::read_if_there(&path)?
        .and_then(|text| process::Group::parse(&String::from_utf8_lossy(&text)))
    {
        group.end();
    }
    durable::remove(&path)
}

/// Makes a system the newest version of the profile, which is what a boot leads to.
pub(crate) fn set_profile(
    machine: &Machine,
    system: &SystemPath,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let profile = machine.profile();
    if let Some(folder) = profile.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("can't make the folder {}", folder.display()))?;
    }
    let mut command = Command::new("nix-env");
    command
        .arg("-p")
        .arg(&profile)
        .arg("--set")
        .arg(system.as_str());
    let status = process::run(command, None, line)?;
    if !status.success() {
        bail!(
            "can't set the profile {}: nix-env ended with {status}",
            profile.display()
        );
    }
    Ok(())
}

fn unit_prefix(run: RunId) -> String {
    format!("bento-activate-{run}-")
}

/// A name that no unit of this run has had: systemd may not have forgotten the last one yet.
fn unit_name(run: RunId) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{}{}-{number}.service",
        unit_prefix(run),
        std::process::id()
    )
}

/// In a unit of its own: whatever becomes of the client, whose own unit the switch may change, the switch goes on.
fn in_unit(
    state: &State,
    run: RunId,
    system: &SystemPath,
    action: Action,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<ExitStatus> {
    let log = state.activation_log();
    if let Err(error) = fs::write(&log, "") {
        // A full disk is no reason not to switch, least of all back: systemd's journal has what it says.
        line(&format!("can't write {}: {error}", log.display()));
        return process::run(unit(run, system, action, None), None, line);
    }
    let status = process::run(unit(run, system, action, Some(&log)), Some(&log), line)?;
    // Its content is in the report and in the journal now.
    durable::remove(&log)?;
    Ok(status)
}

fn unit(run: RunId, system: &SystemPath, action: Action, log: Option<&Path>) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(activation::unit(&unit_name(run)));
    for output in ["StandardOutput", "StandardError"] {
        if let Some(log) = log {
            command.arg(format!("--property={output}=append:{}", log.display()));
        }
    }
    if let Some(archive) = bento_nix::variable("LOCALE_ARCHIVE") {
        let archive = archive.to_string_lossy();
        command.arg(format!("--setenv=LOCALE_ARCHIVE={archive}"));
    }
    command.arg(program(system)).arg(action.as_str());
    command
}

/// Without systemd, in a process group of its own, which is written down so that it can be ended.
fn in_process_group(
    state: &State,
    system: &SystemPath,
    action: Action,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<ExitStatus> {
    let mut command = Command::new(program(system));
    command.arg(action.as_str());
    let path = state.switching();
    let status = process::run_group(command, line, &mut |group| {
        durable::write(&path, group.to_string().as_bytes(), 0o600)
    })?;
    durable::remove(&path)?;
    Ok(status)
}

fn program(system: &SystemPath) -> PathBuf {
    system.join("bin/switch-to-configuration")
}

/// The units that systemd shows as failed; none where it isn't there.
pub(crate) fn failed_units(machine: &Machine) -> Vec<String> {
    if !machine.has_systemd() {
        return Vec::new();
    }
    let listed = Command::new("systemctl")
        .args([
            "list-units",
            // One that crashes and is started again and again doesn't work either.
            "--state=failed,auto-restart",
            "--plain",
            "--no-legend",
            "--full",
        ])
        .output();
    let text = listed.map(|output| output.stdout).unwrap_or_default();
    let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(first_word)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_survives_its_client() {
        let system = "/nix/store/x-system".parse().unwrap();
        let run = RunId::now();
        let log = Path::new("/var/lib/bento/activation.log");
        let command = unit(run, &system, Action::Test, Some(log));
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_str().unwrap())
            .collect();
        let prefix = format!("--unit=bento-activate-{run}-");
        assert!(
            arguments
                .iter()
                .any(|argument| argument.starts_with(&prefix))
        );
        assert!(
            arguments.contains(&"--property=StandardError=append:/var/lib/bento/activation.log")
        );
        assert!(!arguments.contains(&"--pipe"));
        assert!(arguments.ends_with(&["/nix/store/x-system/bin/switch-to-configuration", "test"]));
    }
}
