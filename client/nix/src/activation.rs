//! How a system takes over a machine, whoever asks for it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Longest time for a switch: one that never ended would keep the machine from every further update.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// Longest time for a switch back: what keeps it waiting is a unit that never stops, and the machine is on neither
/// system until it ends.
pub const LONGEST_RETURN: Duration = Duration::from_secs(600);

/// Arguments with which `systemd-run` starts a system's switch-to-configuration in a transient unit of this name, which
/// goes on whatever becomes of whoever asked, for at most `limit`. What the unit writes must not go through a pipe: that closes with its
/// reader, and the switch dies of it (nixpkgs#39118).
///
/// `systemd-run` returns once the unit has started, and needs no system bus for that. Its own `--wait` does, and says
/// that all is well when the bus restarts meanwhile. So the unit stays when it has ended: its end is asked for by
/// [`UNIT_PROPERTIES`], and then it is to be stopped and reset.
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

/// Properties that `systemctl show` is asked for, to learn how a unit ended that [`unit()`] started.
pub const UNIT_PROPERTIES: &str =
    "--property=LoadState,ActiveState,SubState,ExecMainCode,ExecMainStatus";

/// How far a unit is that [`unit()`] started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// It hasn't ended.
    Runs,
    /// Its program ended like this.
    Ended(ExitStatus),
    /// There is no such unit: it never started, or somebody stopped it.
    Gone,
}

impl UnitState {
    /// What `systemctl show` says with [`UNIT_PROPERTIES`]; none if it isn't that.
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
            // It wasn't started at all, for which systemd has a status of its own.
            "0" => 1 << 8,
            _ => status,
        };
        Some(UnitState::Ended(ExitStatus::from_raw(status)))
    }
}

/// What the end of a switch-to-configuration that failed means.
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
    /// All is done, but some units failed.
    pub const SOME_UNITS_FAILED: i32 = 4;
    /// Another switch goes on; nothing was changed.
    pub const BUSY: i32 = 11;
    /// The running init can't become the new system's; nothing was changed.
    pub const NEEDS_BOOT: i32 = 100;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 257 shows them. Issue 10, line 17.
    #[test]
    fn what_systemd_shows_of_a_unit_tells_how_its_program_ended() {
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
