//! `bento build --target`: copies a system to its machine over ssh and activates it, for urgent changes.

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

/// The activation of a system on its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PushAction {
    /// Run it now, but boot the previous system
    Test,
    /// Run it now, and boot it
    Switch,
    /// Boot it, but don't run it now
    Boot,
}

/// Copies a system to a machine and activates it there, if `confirm` agrees; returns whether it did.
///
/// # Errors
/// When the machine can't be reached, isn't a NixOS machine, or the activation fails. Each error says what the machine
/// runs and boots now, as far as that is known.
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
        "{system} isn't a store path"
    );
    let as_it_is = || format!("nothing was copied to {target}, which is unchanged");
    // Only for these commands: at the prompt, Ctrl-C must end this program.
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
    copy(&[system], &store, &interruption, &mut |_| {})
        .map_err(|error| anyhow!("can't copy {system} to {target}, which is unchanged: {error}"))?;
    if action != PushAction::Boot {
        test(&remote, system, screen)?;
        screen.print_line(&format!("{target} now runs {system}."))?;
    }
    if action != PushAction::Test {
        let runs = match action {
            PushAction::Boot => "still runs the same system".to_owned(),
            _ => format!("now runs {system}"),
        };
        boot(&remote, system, screen)
            .with_context(|| format!("{target} {runs}, but it may not boot {system}"))?;
        screen.print_line(&format!("{target} will boot {system}."))?;
    }
    Ok(true)
}

/// Checks that this is a NixOS machine, and returns the question for the user.
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
        "only root can switch {target}: use root@…"
    );
    ensure!(
        !found.runs.is_empty(),
        "{target} has no /run/current-system: is it a NixOS machine?"
    );
    ensure!(
        !found.nix_store.is_empty(),
        "{target} has no nix-store in the PATH of ssh commands, which is needed to copy systems"
    );
    let name = match found.name == host.as_str() {
        true => String::new(),
        false => format!(" (its hostname is {:?})", found.name),
    };
    let what = match action {
        PushAction::Test => "run it now, until the next boot",
        PushAction::Switch => "run it now, and boot it",
        PushAction::Boot => "boot it",
    };
    let running = one_line(&found.runs, usize::MAX);
    Ok(format!(
        "{target}{name} runs {running}.\nCopy the system of {host}, {system}, and {what}?"
    ))
}

/// Activates a system until the next boot.
fn test(
    remote: &SshMachine<'_>,
    system: &SystemPath,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    let target = remote.target();
    let status = remote.switch(system, "test", screen).with_context(|| {
        format!("{target} may or may not run {system}; it still boots the previous system")
    })?;
    match status.code() {
        Some(0) => Ok(()),
        Some(exit_codes::SOME_UNITS_FAILED) => bail!(
            "{target} runs {system}, but some of its units failed; it still boots the previous system"
        ),
        Some(exit_codes::BUSY) => {
            bail!("another switch is running on {target}, which is unchanged: try again later")
        }
        Some(exit_codes::NEEDS_BOOT) => {
            bail!(
                "{target} can't switch to {system} without a reboot, and is unchanged: use `--action boot`"
            )
        }
        _ => bail!(
            "switch-to-configuration test on {target} {}. Its changes up to then remain; {target} still boots the previous \
             system",
            activation::meaning(status)
        ),
    }
}

/// Makes a system the one to boot.
fn boot(
    remote: &SshMachine<'_>,
    system: &SystemPath,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    let (status, said) = remote.run(&format!("nix-env -p {PROFILE} --set '{system}'"))?;
    ensure!(
        status.success(),
        "can't set its profile, so it still boots the previous system: {}",
        one_line(&said, usize::MAX)
    );
    let status = remote.switch(system, "boot", screen)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(exit_codes::BUSY) => bail!(
            "it is in the profile, but another switch is running there, so the boot loader wasn't updated: try again \
             later"
        ),
        _ => bail!(
            "it is in the profile, but switch-to-configuration boot {}",
            activation::meaning(status)
        ),
    }
}
