//! How a system takes over a machine, whoever asks for it.

use std::process::ExitStatus;

/// How long a switch may take, in seconds: one that never ended would keep the machine from every further update.
const LONGEST: u32 = 3600;

/// The words that run a system's switch-to-configuration in a transient unit of this name, which goes on whatever becomes
/// of whoever asked. What the unit writes must not go through a pipe: that closes with its reader, and the switch dies of
/// it (nixpkgs#39118).
pub fn unit(name: &str) -> Vec<String> {
    let words = [
        "--collect",
        "--wait",
        "--quiet",
        "--no-ask-password",
        "--service-type=exec",
    ];
    let mut words: Vec<_> = words.map(str::to_owned).into();
    words.extend([
        format!("--unit={name}"),
        "--description=Switch to the system that bento built".to_owned(),
        format!("--property=RuntimeMaxSec={LONGEST}"),
        // A unit starts with an empty environment; this is what nixos-rebuild gives it.
        "--setenv=NIXOS_INSTALL_BOOTLOADER=".to_owned(),
    ]);
    words
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
    /// All is done, but some units failed.
    pub const SOME_UNITS_FAILED: i32 = 4;
    /// Another switch goes on; nothing was changed.
    pub const BUSY: i32 = 11;
    /// The running init can't become the new system's; nothing was changed.
    pub const NEEDS_BOOT: i32 = 100;
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn exit_codes_are_explained() {
        assert!(meaning(ExitStatus::from_raw(1 << 8)).contains("boot loader"));
        assert!(meaning(ExitStatus::from_raw(9)).contains("signal"));
    }
}
