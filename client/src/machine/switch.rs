//! A system's own switch-to-configuration, run so that it outlives the client.

mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bento_nix::activation::exit_codes::{BUSY, CHECK_FAILED, NEEDS_BOOT, SOME_UNITS_FAILED};
use bento_nix::activation::{self, meaning};
use bento_nix::process;
use bento_protocol::{RunId, SystemPath};

use crate::machine::Machine;
use crate::state::State;
use crate::state::atomic_file;

/// Action of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run the system now; don't boot it.
    Test,
    /// Boot it from now on; don't run it now.
    Boot,
    /// Run it again, because a newer one isn't kept. Its checks before a switch don't count: it ran.
    Return,
    /// Boot it again, because a newer one isn't kept.
    BootAgain,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Action::Test | Action::Return => "test",
            Action::Boot | Action::BootAgain => "boot",
        }
    }

    /// Its purpose, in words for a message.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Action::Test | Action::Return => "switch to",
            Action::Boot | Action::BootAgain => "boot from now on into",
        }
    }

    fn is_way_back(self) -> bool {
        matches!(self, Action::Return | Action::BootAgain)
    }

    /// Longest time that it may take.
    fn limit(self) -> Duration {
        match self.is_way_back() {
            true => activation::LONGEST_RETURN,
            false => activation::LONGEST,
        }
    }
}

/// Variable that makes NixOS' script leave out its checks before a switch.
const UNCHECKED: (&str, &str) = ("NIXOS_NO_CHECK", "1");

/// Result of a switch that came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// All is as it should be.
    Wholly,
    /// The system runs, but some of its units failed.
    SomeUnitsFailed,
}

/// Failure of a switch.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// Another one is going on; nothing was changed.
    #[error("another switch of the system is going on")]
    Busy,
    /// The running init can't become that of the new system, which can only be booted; nothing was changed.
    #[error("the new system's init differs from the running one: it can only be booted")]
    NeedsBoot,
    /// The new system's own check of what can't change while the machine runs refused it; nothing was changed. What
    /// would change, in its words.
    #[error("the new system can only be booted: its check for switch inhibitors refused a switch{}", shown(.0))]
    Inhibited(String),
    /// It failed on the way, and may have changed anything.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Message of recent versions of NixOS when their check refuses a switch: no exit code of its own distinguishes it from
/// others. It comes first of all, and `boot` goes without it.
#[derive(Debug, Default)]
struct Refusal {
    is_by_inhibitors: bool,
    /// Such as `dbus-implementation : dbus -> broker`.
    changes: Vec<String>,
}

impl Refusal {
    const BEGIN: &str = "There are changes to critical components of the system";
    const REFUSAL: &str = "Pre-switch check 'switchInhibitors' failed";

    fn hear(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with(Self::BEGIN) {
            self.changes.clear();
        } else if line.contains(" -> ") && self.changes.len() < 10 {
            self.changes.push(line.to_owned());
        }
        self.is_by_inhibitors |= line == Self::REFUSAL;
    }
}

fn shown(changes: &str) -> String {
    match changes {
        "" => String::new(),
        changes => format!(" ({changes})"),
    }
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
    let mut refusal = Refusal::default();
    let line: &mut dyn FnMut(&str) = &mut |text: &str| {
        refusal.hear(text);
        line(text);
    };
    let status = if machine.has_systemd() {
        in_unit(state, run, system, action, line)
    } else {
        in_process_group(state, system, action, line)
    };
    match status.map_err(SwitchError::Failed)? {
        status if status.code() == Some(CHECK_FAILED) && refusal.is_by_inhibitors => {
            Err(SwitchError::Inhibited(refusal.changes.join(", ")))
        }
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
        unit::end(&format!("{}*", unit_prefix(run))).context("can't run systemctl")?;
    }
    let path = state.switching();
    if let Some(group) = atomic_file::read_if_there(&path)?
        .and_then(|text| process::Group::parse(&String::from_utf8_lossy(&text)))
    {
        group.end();
    }
    atomic_file::remove(&path)
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
    let status = process::run(command, line)?;
    if !status.success() {
        bail!(
            "can't set the profile {}: nix-env ended with {status}",
            profile.display()
        );
    }
    Ok(())
}

/// Prefix of the names of all units in which switches run.
const UNITS: &str = "bento-activate-";

fn unit_prefix(run: RunId) -> String {
    format!("{UNITS}{run}-")
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
    let log = match fs::write(&log, "") {
        Ok(()) => Some(log),
        // A full disk is no reason not to switch, least of all back: systemd's journal has what it says.
        Err(error) => {
            line(&format!("can't write {}: {error}", log.display()));
            None
        }
    };
    let log = log.as_deref();
    let name = unit_name(run);
    let ended = unit::run(start(&name, system, action, log), &name, log, line);
    let status = match ended {
        Err(unit::UnitError::NotStarted(error)) if action.is_way_back() => {
            line(&format!("{error:#}; the switch goes on without systemd"));
            in_process_group(state, system, action, line)?
        }
        ended => ended?,
    };
    // Its content is in the report and in the journal now.
    if let Some(log) = log {
        atomic_file::remove(log)?;
    }
    Ok(status)
}

/// The command that starts a switch in a unit.
fn start(name: &str, system: &SystemPath, action: Action, log: Option<&Path>) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(activation::unit(name, action.limit()));
    for output in ["StandardOutput", "StandardError"] {
        if let Some(log) = log {
            command.arg(format!("--property={output}=append:{}", log.display()));
        }
    }
    if let Some(archive) = bento_nix::variable("LOCALE_ARCHIVE") {
        let archive = archive.to_string_lossy();
        command.arg(format!("--setenv=LOCALE_ARCHIVE={archive}"));
    }
    if action.is_way_back() {
        command.arg(format!("--setenv={}={}", UNCHECKED.0, UNCHECKED.1));
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
    if action.is_way_back() {
        command.env(UNCHECKED.0, UNCHECKED.1);
    }
    let path = state.switching();
    let status = process::run_group(command, line, &mut |group| {
        thread::spawn(move || {
            thread::sleep(action.limit());
            group.end();
        });
        atomic_file::write(&path, group.to_string().as_bytes(), 0o600)
    })?;
    atomic_file::remove(&path)?;
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
        // What is left of a switch whose client died says nothing of the system.
        .filter(|unit| !unit.starts_with(UNITS))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the words of nixpkgs. Issue 10, line 16.
    #[test]
    fn a_refusal_for_switch_inhibitors_is_told_from_other_checks() {
        let said = [
            "Checking switch inhibitors...",
            "There are changes to critical components of the system:",
            "",
            "dbus-implementation : dbus -> broker",
            "",
            "Switching into this system is not recommended.",
            "Pre-switch check 'switchInhibitors' failed",
            "Pre-switch checks failed",
        ];
        let heard = |lines: &[&str]| {
            let mut refusal = Refusal::default();
            lines.iter().for_each(|line| refusal.hear(line));
            refusal
        };
        let refusal = heard(&said);
        assert!(refusal.is_by_inhibitors);
        assert_eq!(refusal.changes, ["dbus-implementation : dbus -> broker"]);
        let error = SwitchError::Inhibited(refusal.changes.join(", ")).to_string();
        assert!(
            error.ends_with("(dbus-implementation : dbus -> broker)"),
            "{error}"
        );
        for other in [
            &["Pre-switch check 'shop' failed", "Pre-switch checks failed"][..],
            &[
                "Checking switch inhibitors... done",
                "Failed to install bootloader",
            ],
        ] {
            assert!(!heard(other).is_by_inhibitors);
        }
    }

    #[test]
    fn the_unit_survives_its_client() {
        let system = "/nix/store/x-system".parse().unwrap();
        let run = RunId::now();
        let log = Path::new("/var/lib/bento/activation.log");
        let command = start(&unit_name(run), &system, Action::Test, Some(log));
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
        // Either goes with the system bus, or with the client.
        assert!(!arguments.contains(&"--pipe") && !arguments.contains(&"--wait"));
        assert!(
            !arguments
                .iter()
                .any(|argument| argument.contains(UNCHECKED.0))
        );
        assert!(arguments.ends_with(&["/nix/store/x-system/bin/switch-to-configuration", "test"]));

        // No check of the old system keeps the machine from going back to it.
        let back = start(&unit_name(run), &system, Action::Return, None);
        assert!(
            back.get_args()
                .any(|argument| argument == "--setenv=NIXOS_NO_CHECK=1")
        );
        assert_eq!(back.get_args().last().unwrap(), "test");
        // Issue 10, line 30: a unit that never stops keeps the machine between two systems for minutes, not an hour.
        let limit = |command: &Command| {
            let mut arguments = command.get_args().filter_map(|argument| argument.to_str());
            arguments.find_map(|argument| {
                argument
                    .strip_prefix("--property=RuntimeMaxSec=")?
                    .parse::<u32>()
                    .ok()
            })
        };
        assert_eq!((limit(&command), limit(&back)), (Some(3600), Some(600)));
    }
}
