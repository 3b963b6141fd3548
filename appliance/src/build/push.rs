//! Brings a system to its machine by hand, for the one time when waiting isn't possible.

use anyhow::{Context, anyhow, bail, ensure};
use bento_nix::activation::{self, exit_codes};
use bento_protocol::{HostName, SystemPath};
use clap::ValueEnum;

use super::copy::copy;
use super::interruption::Interruption;
use super::screen::Screen;
use super::ssh::{SshMachine, SshTarget};
use crate::text::sanitise::one_line;

const PROFILE: &str = "/nix/var/nix/profiles/system";

/// What a machine does with a system that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PushAction {
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
    (target, action): (&SshTarget, PushAction),
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
    let asked = prepare_question(
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
    screen.print_line(&format!("Copying {system} to {target}"))?;
    let store = format!("ssh://{target}");
    copy(&[system], &store, &interruption, &mut |_| {}).map_err(|error| {
        anyhow!("can't copy {system} to {target}, which stays as it is: {error}")
    })?;
    if action != PushAction::Boot {
        test(&remote, system, screen)?;
        screen.print_line(&format!("{target} runs {system} now."))?;
    }
    if action != PushAction::Test {
        let runs = match action {
            PushAction::Boot => "runs what it ran".to_owned(),
            _ => format!("runs {system} now"),
        };
        boot(&remote, system, screen).with_context(|| {
            format!("{target} {runs}, and whether it boots {system} isn't sure")
        })?;
        screen.print_line(&format!("{target} boots {system} from now on."))?;
    }
    Ok(true)
}

/// Looks whether this is a machine that takes systems, and asks whether it should take this one.
fn prepare_question(
    remote: &SshMachine<'_>,
    host: &HostName,
    system: &SystemPath,
    action: PushAction,
) -> anyhow::Result<String> {
    let target = remote.target();
    let found = remote.probe()?;
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
        PushAction::Test => "run it now, until the next boot",
        PushAction::Switch => "run it now, and boot it from now on",
        PushAction::Boot => "boot it from now on",
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
    let (status, said) = remote.run(&format!("nix-env -p {PROFILE} --set '{system}'"))?;
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
