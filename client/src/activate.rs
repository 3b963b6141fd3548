//! Makes a built system the one that runs.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context, bail};
use bento_protocol::{RunId, SystemPath};

use crate::machine::Machine;
use crate::process;
use crate::state::State;

/// What an activation came to, when it did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activation {
    /// What isn't as it should be though the new system runs, such as units that failed.
    pub warning: Option<String>,
}

/// The exit code of switch-to-configuration when the system runs, but not all of its units.
const SOME_UNITS_FAILED: i32 = 4;

/// Makes the system the newest version of the profile and switches to it.
pub(crate) fn activate(
    machine: &Machine,
    state: &State,
    run: RunId,
    system: &SystemPath,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<Activation> {
    set_profile(machine, system, line)?;
    let status = if machine.has_systemd() {
        switch_in_unit(state, run, system, line)?
    } else {
        let mut command = Command::new(system.join("bin/switch-to-configuration"));
        command.arg("switch");
        process::run(command, None, line)?
    };
    let failed_units = if machine.has_systemd() {
        failed_units()
    } else {
        Vec::new()
    };
    let warning = match status.code() {
        Some(0) => None,
        Some(SOME_UNITS_FAILED) => Some(units_warning(&failed_units)),
        _ => bail!("switch-to-configuration {}", meaning(status)),
    };
    let running = machine.situation().running;
    if running.as_ref() != Some(system) {
        let running = running.map_or("nothing known".to_owned(), |running| running.to_string());
        bail!("switch-to-configuration said that all is well, but {running} runs, not {system}");
    }
    Ok(Activation { warning })
}

fn set_profile(
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

/// Runs the switch in a unit of its own, so that it goes on whatever becomes of the client, whose own unit the switch
/// may change.
fn switch_in_unit(
    state: &State,
    run: RunId,
    system: &SystemPath,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<ExitStatus> {
    let log = state.activation_log();
    fs::write(&log, "").with_context(|| format!("can't write {}", log.display()))?;
    let status = process::run(unit(run, system, &log), Some(&log), line)?;
    // Its content is in the report and in the journal now.
    fs::remove_file(&log).with_context(|| format!("can't remove {}", log.display()))?;
    Ok(status)
}

fn unit(run: RunId, system: &SystemPath, log: &Path) -> Command {
    let mut command = Command::new("systemd-run");
    command
        .args([
            "--collect",
            "--wait",
            "--quiet",
            "--no-ask-password",
            "--service-type=exec",
        ])
        .arg(format!("--unit=bento-activate-{run}"))
        .arg("--description=Switch to the system that bento built");
    // To a file and not through a pipe: a pipe closes with the client, and the switch dies of that (nixpkgs#39118).
    for output in ["StandardOutput", "StandardError"] {
        command.arg(format!("--property={output}=append:{}", log.display()));
    }
    // A unit starts with an empty environment; this is what nixos-rebuild gives it.
    command.arg("--setenv=NIXOS_INSTALL_BOOTLOADER=");
    if let Ok(archive) = std::env::var("LOCALE_ARCHIVE") {
        command.arg(format!("--setenv=LOCALE_ARCHIVE={archive}"));
    }
    command
        .arg(system.join("bin/switch-to-configuration"))
        .arg("switch");
    command
}

/// The units that systemd shows as failed.
fn failed_units() -> Vec<String> {
    let listed = Command::new("systemctl")
        .args([
            "list-units",
            "--state=failed",
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

fn units_warning(failed: &[String]) -> String {
    match failed {
        [] => "the new system runs, but some of its units failed to start or restart: see the log"
            .to_owned(),
        units => format!(
            "the new system runs, but these units are failed: {}",
            units.join(", ")
        ),
    }
}

fn meaning(status: ExitStatus) -> String {
    let Some(code) = status.code() else {
        return format!("was ended: {status}");
    };
    let meaning = match code {
        1 => ": a check before the switch, the boot loader, or the switch itself failed",
        2 => ": the activation script failed",
        3 => ": systemd couldn't load the new units",
        11 => ": another switch is going on",
        100 => ": the init system differs, the new system can only be booted",
        _ => "",
    };
    format!("ended with exit code {code}{meaning}; see the log")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn the_unit_survives_its_client() {
        let system = "/nix/store/x-system".parse().unwrap();
        let run = RunId::now();
        let command = unit(run, &system, Path::new("/var/lib/bento/activation.log"));
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_str().unwrap())
            .collect();
        assert!(arguments.contains(&format!("--unit=bento-activate-{run}").as_str()));
        assert!(
            arguments.contains(&"--property=StandardError=append:/var/lib/bento/activation.log")
        );
        assert!(!arguments.contains(&"--pipe"));
        assert!(
            arguments.ends_with(&["/nix/store/x-system/bin/switch-to-configuration", "switch"])
        );
    }

    #[test]
    fn exit_codes_are_explained() {
        assert!(meaning(ExitStatus::from_raw(11 << 8)).contains("another switch"));
        assert!(meaning(ExitStatus::from_raw(9)).contains("signal"));
        assert!(
            units_warning(&["a.service".into(), "b.timer".into()]).ends_with("a.service, b.timer")
        );
    }
}
