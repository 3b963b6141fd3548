//! Activation of a built system, by the client and by `bento build --target`.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Time limit for a switch: one that never ended would block every further update.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// Time limit for a switch back: it waits for units that never stop, and until it ends the machine is on neither
/// system.
pub const LONGEST_RETURN: Duration = Duration::from_secs(600);

/// Arguments for `systemd-run` to start switch-to-configuration in a transient unit of this name, for at most `limit`.
/// The unit outlives its caller. Its output must not go through a pipe, which closes with its reader and kills the
/// switch (nixpkgs#39118).
///
/// `systemd-run` returns once the unit has started, and needs no system bus for that. Its own `--wait` does, and
/// reports success if the bus restarts meanwhile. So the unit remains after its end: the caller polls
/// [`UNIT_PROPERTIES`], and then stops and resets the unit.
pub fn unit(name: &str, limit: Duration) -> Vec<String> {
    let words = [
        "--remain-after-exit",
        "--quiet",
        "--no-ask-password",
        "--service-type=exec",
    ];
    let mut words: Vec<_> = words.map(str::to_owned).into();
    words.extend([
        format!("--unit={name}"),
        "--description=Switch to the system that bento built".to_owned(),
        format!("--property=RuntimeMaxSec={}", limit.as_secs()),
        // A unit starts with an empty environment; this is what nixos-rebuild gives it.
        "--setenv=NIXOS_INSTALL_BOOTLOADER=".to_owned(),
    ]);
    words
}

/// Option of `systemctl show` for the properties that [`UnitState::parse`] reads.
pub const UNIT_PROPERTIES: &str =
    "--property=LoadState,ActiveState,SubState,ExecMainCode,ExecMainStatus";

/// State of a unit that [`unit()`] started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// Still running.
    Runs,
    /// Ended, with the exit status of its program.
    Ended(ExitStatus),
    /// No such unit: it never started, or somebody stopped it.
    Gone,
}

impl UnitState {
    /// The state in the output of `systemctl show` with [`UNIT_PROPERTIES`]; none if the output is something else.
    pub fn parse(shown: &str) -> Option<Self> {
        let value = |name: &str| {
            let mut lines = shown.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        if value("LoadState")? == "not-found" {
            return Some(UnitState::Gone);
        }
        match (value("ActiveState")?, value("SubState")?) {
            ("active", "exited") | ("failed", _) => {}
            ("inactive", _) => return Some(UnitState::Gone),
            _ => return Some(UnitState::Runs),
        }
        let status: i32 = value("ExecMainStatus")?.parse().ok()?;
        // As wait(2) has it: an exit code, or the signal that ended the program.
        let status = match value("ExecMainCode")? {
            "1" => status << 8,
            // The program wasn't started; systemd has a status of its own for that.
            "0" => 1 << 8,
            _ => status,
        };
        Some(UnitState::Ended(ExitStatus::from_raw(status)))
    }
}

/// Explanation of a failed switch-to-configuration's exit status.
pub fn meaning(status: ExitStatus) -> String {
    let Some(code) = status.code() else {
        return format!("was ended: {status}");
    };
    let meaning = match code {
        1 => ": a check before the switch, the boot loader, or the switch itself failed",
        2 => ": the activation script failed",
        3 => ": systemd couldn't load the new units",
        _ => "",
    };
    format!("ended with exit code {code}{meaning}; see the log")
}

/// Exit codes of NixOS' switch-to-configuration.
pub mod exit_codes {
    /// Something failed: a check before the switch, the boot loader, or the switch itself.
    pub const CHECK_FAILED: i32 = 1;
    /// The switch is done, but some units failed.
    pub const SOME_UNITS_FAILED: i32 = 4;
    /// Another switch is running; nothing was changed.
    pub const BUSY: i32 = 11;
    /// The running init can't become the new system's; nothing was changed.
    pub const NEEDS_BOOT: i32 = 100;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 257 shows them. Issue 10, line 17.
    #[test]
    fn the_properties_of_a_unit_show_how_its_program_ended() {
        let state = |load, active, sub, code, status| {
            UnitState::parse(&format!(
                "Result=any\nExecMainCode={code}\nExecMainStatus={status}\nLoadState={load}\nActiveState={active}\n\
                 SubState={sub}\n"
            ))
        };
        let ended = |raw| Some(UnitState::Ended(ExitStatus::from_raw(raw)));
        assert_eq!(
            state("loaded", "active", "running", 0, 0),
            Some(UnitState::Runs)
        );
        assert_eq!(
            state("loaded", "deactivating", "stop-sigterm", 0, 0),
            Some(UnitState::Runs)
        );
        assert_eq!(state("loaded", "active", "exited", 1, 0), ended(0));
        assert_eq!(state("loaded", "failed", "failed", 1, 4), ended(4 << 8));
        assert_eq!(state("loaded", "failed", "failed", 2, 15), ended(15));
        assert_eq!(state("loaded", "failed", "failed", 0, 0), ended(1 << 8));
        // Somebody stopped it; systemd may not have forgotten it yet.
        for load in ["not-found", "loaded"] {
            assert_eq!(
                state(load, "inactive", "dead", 1, 0),
                Some(UnitState::Gone),
                "{load}"
            );
        }
        assert_eq!(
            UnitState::parse("Failed to get properties: Connection timed out\n"),
            None
        );
    }

    #[test]
    fn exit_codes_are_explained() {
        assert!(meaning(ExitStatus::from_raw(1 << 8)).contains("boot loader"));
        assert!(meaning(ExitStatus::from_raw(9)).contains("signal"));
    }
}
