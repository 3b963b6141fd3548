//! A machine that is reached over ssh.

use std::fmt;
use std::process::{Command, ExitStatus};
use std::str::FromStr;

use anyhow::{Context, bail};
use bento_nix::{Tail, activation};
use bento_protocol::{RunId, SystemPath};

use super::interruption::Interruption;
use super::screen::Screen;
use crate::text::sanitise::one_line;

/// The exit code of ssh for its own failures.
const SSH_FAILED: i32 = 255;
/// Timeouts for a machine that doesn't answer. Options in NIX_SSHOPTS take precedence.
const SSH_TIMEOUTS: &str =
    "-o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4";
/// The line before the answer: earlier lines are banners and the output of shell profiles.
const ANSWER_MARK: &str = "bento-answer:";
/// The probed values, each with its command, printed as `name=value`.
const PROBE: [(&str, &str); 4] = [
    ("user", "id -u"),
    ("name", "uname -n"),
    ("runs", "readlink -e /run/current-system"),
    ("nix-store", "command -v nix-store"),
];

/// The address of a machine for ssh, such as `root@web.example.org`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget(String);

impl FromStr for SshTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"@._-:[]%".contains(&byte);
        match !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_allowed) {
            true => Ok(SshTarget(text.to_owned())),
            false => Err("it must be an address for ssh, such as root@web.example.org".to_owned()),
        }
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A machine, with the interruption that ends its commands.
pub(super) struct SshMachine<'a> {
    target: &'a SshTarget,
    interruption: &'a Interruption,
}

/// The probed values of a machine; empty if missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SshProbe {
    /// The user id of the login.
    pub(super) user: String,
    pub(super) name: String,
    /// The running system.
    pub(super) runs: String,
    /// The path of nix-store.
    pub(super) nix_store: String,
}

/// The options of ssh for all connections, as in NIX_SSHOPTS.
pub(super) fn ssh_options() -> String {
    let wanted = std::env::var("NIX_SSHOPTS").unwrap_or_default();
    format!("{wanted} {SSH_TIMEOUTS}")
}

impl<'a> SshMachine<'a> {
    pub(super) fn new(target: &'a SshTarget, interruption: &'a Interruption) -> Self {
        SshMachine {
            target,
            interruption,
        }
    }

    pub(super) fn target(&self) -> &'a SshTarget {
        self.target
    }

    /// Reads the values of [`PROBE`] from the machine.
    ///
    /// # Errors
    /// When it can't be reached, or has no usable shell.
    pub(super) fn probe(&self) -> anyhow::Result<SshProbe> {
        let questions = PROBE.map(|(key, command)| format!("printf '{key}='; {command} || echo"));
        let (status, said) = self.run(&format!("{}; true", questions.join("; ")))?;
        match SshProbe::read(&said) {
            Some(found) if status.success() => Ok(found),
            _ => bail!(
                "{} has no usable shell for this login: {}",
                self.target,
                one_line(&said, usize::MAX)
            ),
        }
    }

    /// Runs the system's switch-to-configuration there, and prints its output.
    ///
    /// # Errors
    /// When the connection fails; the switch continues there.
    pub(super) fn switch(
        &self,
        system: &SystemPath,
        action: &str,
        screen: &mut Screen<'_>,
    ) -> anyhow::Result<ExitStatus> {
        let target = self.target;
        let unit = format!("bento-push-{}.service", RunId::now());
        let words: Vec<_> = activation::unit(&unit, activation::LONGEST)
            .iter()
            .map(|word| format!("'{word}'"))
            .collect();
        // Polls systemd for the end, because the switch may restart the bus that `systemd-run --wait` needs.
        let command = format!(
            "systemd-run {} '{system}/bin/switch-to-configuration' {action} || exit; show() {{ systemctl show \
             --property=\"$1\" --value '{unit}'; }}; until case $(show SubState) in exited|failed|dead) ;; *) false ;; \
             esac; do sleep 0.2; done; how=$(show ExecMainCode) code=$(show ExecMainStatus); systemctl stop '{unit}'; \
             systemctl reset-failed '{unit}' 2>/dev/null; [ \"$how\" = 1 ] || code=1; exit \"$code\"",
            words.join(" ")
        );
        let (status, said) = self.run(&command).with_context(|| {
            format!(
                "lost the connection during switch-to-configuration {action} on {target}; if it had started, it continues \
                 there: see `journalctl --unit={unit}`. {system} is already copied, so you can run this again"
            )
        })?;
        let log = self.run(&format!(
            "journalctl --sync; journalctl --quiet --output=cat --unit='{unit}'"
        ));
        let log = log.map(|(_, log)| log).unwrap_or_default();
        for line in said.lines().chain(log.lines()) {
            screen.print_line(&format!("{target}> {}", one_line(line, usize::MAX)))?;
        }
        Ok(status)
    }

    /// Runs a shell command there; returns its status and output.
    ///
    /// # Errors
    /// When ssh can't be run, or the connection fails.
    pub(super) fn run(&self, line: &str) -> anyhow::Result<(ExitStatus, String)> {
        let mut command = Command::new("ssh");
        command.args(ssh_options().split_whitespace());
        command.arg(self.target.to_string());
        command.arg(format!("echo; echo {ANSWER_MARK}; {line}"));
        // Only the end of an endless output.
        let mut said = Tail::default();
        let status = self.interruption.run(command, &mut |line| match line {
            ANSWER_MARK => said = Tail::default(),
            line => said.push(line),
        })?;
        let said = said.text();
        if self.interruption.is_requested() {
            bail!("interrupted");
        }
        if status.code() == Some(SSH_FAILED) || status.code().is_none() {
            bail!(
                "the connection to {} failed: {}",
                self.target,
                one_line(&said, usize::MAX)
            );
        }
        Ok((status, said))
    }
}

impl SshProbe {
    fn read(said: &str) -> Option<Self> {
        let value = |key: &str| {
            let lines = said.lines().rev();
            let mut values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            values.next().map(str::to_owned)
        };
        let [user, name, runs, nix_store] = PROBE.map(|(key, _)| value(key));
        Some(SshProbe {
            user: user?,
            name: name?,
            runs: runs?,
            nix_store: nix_store?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_neither_an_option_nor_a_command() {
        for good in ["web", "root@web.example.org", "root@[fe80::1%eth0]"] {
            assert!(good.parse::<SshTarget>().is_ok(), "{good}");
        }
        for bad in ["", "-oProxyCommand=x", "a b", "a;b", "a$(b)", "a/b"] {
            assert!(bad.parse::<SshTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn other_output_of_a_machine_is_no_answer() {
        let found = SshProbe {
            user: "0".to_owned(),
            name: "web".to_owned(),
            runs: "/nix/store/x".to_owned(),
            nix_store: String::new(),
        };
        let said = "\n1000\nWelcome\nuser=nobody\n\nuser=0\n\nname=web\nruns=/nix/store/x\nnix-store=\n\nbye\n";
        assert_eq!(SshProbe::read(said), Some(found));
        for refusal in [
            "",
            "\n\n",
            "This account is currently not available.\n",
            "user=0\nname=web\n",
        ] {
            assert_eq!(SshProbe::read(refusal), None, "{refusal:?}");
        }
    }
}
