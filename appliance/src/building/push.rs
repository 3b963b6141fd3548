//! Brings a system to its machine by hand, for the one time when waiting isn't possible.

use std::fmt;
use std::process::{Command, ExitStatus};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use bento_nix::activation::{self, exit_codes};
use bento_protocol::{HostName, RunId, SystemPath};
use clap::ValueEnum;

use super::copy::copy;
use super::interruption::Interruption;
use super::screen::Screen;
use crate::report::one_line;

/// Where ssh finds a machine, such as `root@web.example.org`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(String);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"@._-:[]%".contains(&byte);
        match !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_allowed) {
            true => Ok(Target(text.to_owned())),
            false => Err("name a machine as ssh does, such as root@web.example.org".to_owned()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a machine does with a system that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Runs it now; the next boot leads back to what it had
    Test,
    /// Runs it now, and boots it from now on
    Switch,
    /// Boots it from now on, and doesn't run it now
    Boot,
}

/// The exit code of ssh when it fails itself.
const SSH_FAILED: i32 = 255;
const PROFILE: &str = "/nix/var/nix/profiles/system";

/// A machine that is reached by ssh.
struct Machine<'a> {
    target: &'a Target,
    interruption: &'a Interruption,
}

/// Copies a system to a machine and lets it take over there, if `consent` to the question that it is asked is given.
/// False if it wasn't.
///
/// # Errors
/// When the machine can't be reached or isn't one that takes systems, and when it doesn't take this one wholly.
pub fn push(
    host: &HostName,
    system: &SystemPath,
    (target, action): (&Target, Action),
    consent: &dyn Fn(&str) -> anyhow::Result<bool>,
    screen: &mut Screen<'_>,
) -> anyhow::Result<bool> {
    ensure!(
        system
            .as_str()
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/+-._?=".contains(&byte)),
        "{system} is no path of a store"
    );
    let question = Machine {
        target,
        // Not for longer: whoever is asked must be able to end it all with Ctrl-C.
        interruption: &Interruption::watch()?,
    }
    .question(host, system, action)?;
    if !consent(&question)? {
        return Ok(false);
    }
    let interruption = Interruption::watch()?;
    let machine = Machine {
        target,
        interruption: &interruption,
    };
    screen.say(&format!("Copying {system} to {target}"))?;
    let store = format!("ssh://{target}");
    if let Err(error) = copy(&[system], &store, &interruption, &mut |_| {}) {
        bail!("can't copy {system} to {target}: {error}");
    }
    if action != Action::Boot {
        machine.switch(system, "test", screen)?;
        screen.say(&format!("{target} runs {system} now."))?;
    }
    if action != Action::Test {
        let set = format!("nix-env -p {PROFILE} --set '{system}'");
        let (status, said) = machine.ask(&set)?;
        ensure!(
            status.success(),
            "{target} can't set its profile: {}",
            one_line(&said, usize::MAX)
        );
        machine.switch(system, "boot", screen)?;
        screen.say(&format!("{target} boots {system} from now on."))?;
    }
    Ok(true)
}

impl Machine<'_> {
    /// Looks whether this is a machine that takes systems, and asks whether it should take this one.
    fn question(
        &self,
        host: &HostName,
        system: &SystemPath,
        action: Action,
    ) -> anyhow::Result<String> {
        let target = self.target;
        let look = "id -u; uname -n; readlink -e /run/current-system; true";
        let (status, said) = self.ask(look)?;
        let mut lines = said.lines();
        let user = lines.find(|line| line.bytes().all(|byte| byte.is_ascii_digit()));
        ensure!(
            status.success() && user.is_some(),
            "{target} doesn't answer: {}",
            one_line(&said, usize::MAX)
        );
        ensure!(
            user == Some("0"),
            "only root may switch {target}: name it as root@…"
        );
        let name = lines.next().unwrap_or_default();
        let running = lines.next().with_context(|| {
            format!("{target} has no /run/current-system: is it a machine with NixOS?")
        })?;
        let name = match name == host.as_str() {
            true => String::new(),
            false => format!(", which calls itself {name:?},"),
        };
        let what = match action {
            Action::Test => "run it now, until the next boot",
            Action::Switch => "run it now, and boot it from now on",
            Action::Boot => "boot it from now on",
        };
        let running = one_line(running, usize::MAX);
        Ok(format!(
            "{target}{name} runs {running}.\nBring it {host}'s {system} and let it {what}?"
        ))
    }

    /// Runs the system's switch-to-configuration there, and shows what it says.
    fn switch(
        &self,
        system: &SystemPath,
        action: &str,
        screen: &mut Screen<'_>,
    ) -> anyhow::Result<()> {
        let target = self.target;
        let unit = format!("bento-push-{}.service", RunId::now());
        let words: Vec<_> = activation::unit(&unit)
            .iter()
            .map(|word| format!("'{word}'"))
            .collect();
        let command = format!(
            "systemd-run {} '{system}/bin/switch-to-configuration' {action}",
            words.join(" ")
        );
        let (status, said) = self.ask(&command).with_context(|| {
            format!("what {target} does goes on there: `journalctl -u {unit}` shows it")
        })?;
        let log = self.ask(&format!(
            "journalctl --sync; journalctl --quiet --output=cat --unit='{unit}'"
        ));
        let log = log.map(|(_, log)| log).unwrap_or_default();
        for line in said.lines().chain(log.lines()) {
            screen.say(&format!("{target}> {}", one_line(line, usize::MAX)))?;
        }
        match status.code() {
            Some(0) => Ok(()),
            Some(exit_codes::SOME_UNITS_FAILED) => bail!(
                "{target} runs {system}, but some of its units failed; nothing further was done, so that it boots \
                 what it booted before"
            ),
            Some(exit_codes::BUSY) => {
                bail!("{target} switches already, and stays as it is: try again later")
            }
            Some(exit_codes::NEEDS_BOOT) => {
                bail!("{target} can only boot {system}, and stays as it is: use `--action boot`")
            }
            _ => bail!(
                "switch-to-configuration {action} on {target} {}",
                activation::meaning(status)
            ),
        }
    }

    /// Runs a line of shell there; gives what it says.
    fn ask(&self, line: &str) -> anyhow::Result<(ExitStatus, String)> {
        let mut command = Command::new("ssh");
        // As `nix copy` and nixos-rebuild do.
        let options = std::env::var("NIX_SSHOPTS").unwrap_or_default();
        command.args(options.split_whitespace());
        command.args([self.target.0.as_str(), line]);
        let mut said = String::new();
        let status = self.interruption.run(command, &mut |line| {
            said.push_str(line);
            said.push('\n');
        })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_no_option_and_no_command() {
        for good in ["web", "root@web.example.org", "root@[fe80::1%eth0]"] {
            assert!(good.parse::<Target>().is_ok(), "{good}");
        }
        for bad in ["", "-oProxyCommand=x", "a b", "a;b", "a$(b)", "a/b"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
