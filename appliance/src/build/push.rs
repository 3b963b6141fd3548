//! Brings a system to its machine by hand, for the one time when waiting isn't possible.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail, ensure};
use bento_nix::activation::{self, exit_codes};
use bento_protocol::{HostName, SystemPath};
use clap::ValueEnum;

use super::copy::copy;
use super::interruption::Interruption;
use super::screen::Screen;
use super::ssh::SshMachine;
use crate::text::sanitise::one_line;

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

const PROFILE: &str = "/nix/var/nix/profiles/system";

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

/// Copies a system to a machine and lets it take over there, if `consent` to the question that it is asked is given.
/// False if it wasn't.
///
/// # Errors
/// When the machine can't be reached or isn't one that takes systems, and when it doesn't take this one wholly. Each says
/// what the machine runs and boots now, as far as that is known.
pub fn push(
    host: &HostName,
    system: &SystemPath,
    (target, action): (&Target, Action),
    confirm: &dyn Fn(&str) -> anyhow::Result<bool>,
    screen: &mut Screen<'_>,
) -> anyhow::Result<bool> {
    ensure!(
        system
            .as_str()
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/+-._?=".contains(&byte)),
        "{system} is no path of a store"
    );
    let as_it_is = || format!("nothing was brought to {target}, which stays as it is");
    // Not for longer: whoever is asked must be able to end it all with Ctrl-C.
    let asked = question(
        &SshMachine::new(target, &Interruption::watch()?),
        host,
        system,
        action,
    );
    if !confirm(&asked.with_context(as_it_is)?)? {
        return Ok(false);
    }
    let interruption = Interruption::watch()?;
    let remote = SshMachine::new(target, &interruption);
    screen.say(&format!("Copying {system} to {target}"))?;
    let store = format!("ssh://{target}");
    copy(&[system], &store, &interruption, &mut |_| {}).map_err(|error| {
        anyhow!("can't copy {system} to {target}, which stays as it is: {error}")
    })?;
    if action != Action::Boot {
        test(&remote, system, screen)?;
        screen.say(&format!("{target} runs {system} now."))?;
    }
    if action != Action::Test {
        let runs = match action {
            Action::Boot => "runs what it ran".to_owned(),
            _ => format!("runs {system} now"),
        };
        boot(&remote, system, screen).with_context(|| {
            format!("{target} {runs}, and whether it boots {system} isn't sure")
        })?;
        screen.say(&format!("{target} boots {system} from now on."))?;
    }
    Ok(true)
}

/// Looks whether this is a machine that takes systems, and asks whether it should take this one.
fn question(
    remote: &SshMachine<'_>,
    host: &HostName,
    system: &SystemPath,
    action: Action,
) -> anyhow::Result<String> {
    let target = remote.target();
    let found = remote.look()?;
    ensure!(
        found.user == "0",
        "only root may switch {target}: name it as root@…"
    );
    ensure!(
        !found.runs.is_empty(),
        "{target} has no /run/current-system: is it a machine with NixOS?"
    );
    ensure!(
        !found.nix_store.is_empty(),
        "{target} finds no nix-store, with which systems are copied, in the PATH of a command that comes by ssh"
    );
    let name = match found.name == host.as_str() {
        true => String::new(),
        false => format!(", which calls itself {:?},", found.name),
    };
    let what = match action {
        Action::Test => "run it now, until the next boot",
        Action::Switch => "run it now, and boot it from now on",
        Action::Boot => "boot it from now on",
    };
    let running = one_line(&found.runs, usize::MAX);
    Ok(format!(
        "{target}{name} runs {running}.\nBring it {host}'s {system} and let it {what}?"
    ))
}

/// Lets the machine run a system, until it boots.
fn test(
    remote: &SshMachine<'_>,
    system: &SystemPath,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    let target = remote.target();
    let status = remote.switch(system, "test", screen).with_context(|| {
        format!("whether {target} runs {system} isn't sure; it boots what it booted before")
    })?;
    match status.code() {
        Some(0) => Ok(()),
        Some(exit_codes::SOME_UNITS_FAILED) => bail!(
            "{target} runs {system}, but some of its units failed; nothing further was done, so that it boots what \
             it booted before"
        ),
        Some(exit_codes::BUSY) => {
            bail!("{target} switches already, and stays as it is: try again later")
        }
        Some(exit_codes::NEEDS_BOOT) => {
            bail!("{target} can only boot {system}, and stays as it is: use `--action boot`")
        }
        _ => bail!(
            "switch-to-configuration test on {target} {}. What it did until then is done; it boots what it booted \
             before",
            activation::meaning(status)
        ),
    }
}

/// Lets the machine boot a system from now on.
fn boot(
    remote: &SshMachine<'_>,
    system: &SystemPath,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    let (status, said) = remote.ask(&format!("nix-env -p {PROFILE} --set '{system}'"))?;
    ensure!(
        status.success(),
        "its profile can't be set, so that it boots what it booted before: {}",
        one_line(&said, usize::MAX)
    );
    let status = remote.switch(system, "boot", screen)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(exit_codes::BUSY) => bail!(
            "it is in the profile, but another switch is under way there, so that the boot loader wasn't told: try \
             again later"
        ),
        _ => bail!(
            "it is in the profile, but switch-to-configuration boot {}",
            activation::meaning(status)
        ),
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
