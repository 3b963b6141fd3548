mod behind;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;

use super::prompt::ConfirmOption;
use super::remote::{Appliance, ApplianceOption};
use crate::daemon;
use crate::fleet::PublicKey;
use crate::sshd;
use crate::store::paths::{Runtime, State};
use crate::text::terminal::to_stderr;
use behind::MachinesBehind;

/// Print the appliance's public host key, for fleet.toml and for the machines
///
/// To replace the key: create a second key with --prepare. Add it beside the first key in the machines' configuration,
/// and in host_keys of fleet.toml, if set. When all machines are up to date, run --switch: the appliance now uses the
/// second key. Then remove the first key from the configuration and fleet.toml, and run --forget to delete it. Until
/// then, another --switch goes back. While there are two keys, both are printed, the one in use first. Each line is a
/// key with its fingerprint as the comment, as `bento-client` shows it.
#[derive(Debug, Args)]
pub struct HostKeyCommand {
    #[command(flatten)]
    step: Step,
    #[command(flatten)]
    confirm: ConfirmOption,
    #[command(flatten)]
    appliance: ApplianceOption,
    /// The fleet folder of the appliance
    #[arg(long, value_name = "DIR", default_value = "/config", hide = true)]
    config: PathBuf,
    /// Change nothing; print as JSON the machines that may not know the key
    #[arg(long, hide = true, requires = "Step")]
    behind: bool,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Step {
    /// Create a second key, unless there is one
    #[arg(long)]
    prepare: bool,
    /// Use the other key, from the next connection on
    #[arg(long)]
    switch: bool,
    /// Delete the key that isn't in use
    #[arg(long)]
    forget: bool,
}

impl HostKeyCommand {
    /// Runs the requested step, and prints the keys, one on each line.
    ///
    /// # Errors
    /// When the appliance can't be asked, or never ran with this state.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let appliance = self.appliance.find()?;
        if self.behind {
            serde_json::to_writer(&mut *output, &self.find_behind(&appliance)?)?;
            return Ok(());
        }
        let keys = keys_of(&appliance)?;
        let step = self.step.name();
        if step.is_some() && !self.confirmed(&keys, &appliance)? {
            return Ok(());
        }
        let keys = match (step, &appliance) {
            (None, _) => keys,
            (Some(step), Appliance::Remote(remote)) => {
                parse(&remote.read(["host-key", &format!("--{step}"), "--yes"])?)?
            }
            (Some(step), Appliance::Here(state, _)) => {
                self.run_step(state)?;
                to_stderr(next_step(step));
                keys_of(&appliance)?
            }
        };
        for key in keys {
            writeln!(output, "{}", key.line_with_fingerprint())?;
        }
        Ok(())
    }

    fn run_step(&self, state: &State) -> anyhow::Result<()> {
        if self.step.prepare {
            sshd::HostKey::prepare_spare(state)?;
        } else if self.step.switch {
            sshd::HostKey::switch(state, &daemon::host_keys(&self.config, state)?)?;
        } else if self.step.forget {
            sshd::HostKey::forget_spare(state)?;
        }
        Ok(())
    }

    /// The machines that may not know the key that they need after this step.
    fn find_behind(&self, appliance: &Appliance) -> anyhow::Result<Option<MachinesBehind>> {
        let of: fn(&State, &Runtime) -> _ = match (self.step.switch, self.step.forget) {
            (true, _) => MachinesBehind::of_switch,
            (_, true) => MachinesBehind::of_forget,
            _ => return Ok(None),
        };
        match appliance {
            Appliance::Here(state, runtime) => of(state, runtime).map(Some),
            Appliance::Remote(remote) => {
                let step = self.step.name().map(|step| format!("--{step}"));
                let words = ["host-key", "--behind"].into_iter();
                remote.read_json(words.chain(step.as_deref()))
            }
        }
    }

    /// Asks before a step that can lock machines out.
    fn confirmed(&self, keys: &[PublicKey], appliance: &Appliance) -> anyhow::Result<bool> {
        let Some(other) = keys.get(1).filter(|_| !self.step.prepare) else {
            return Ok(true);
        };
        if self.confirm.asks() {
            self.confirm.require_terminal()?;
            let behind = self.find_behind(appliance)?;
            let what = match self.step.switch {
                true => "that key was created",
                false => "the keys were switched",
            };
            for line in behind.iter().flat_map(|behind| behind.lines(what)) {
                to_stderr(&line);
            }
        }
        let other = other.fingerprint();
        self.confirm.ask(&match self.step.switch {
            true => format!(
                "After the switch, a machine that doesn't know {other} refuses to connect. Switch to it?"
            ),
            false => format!("{other} can't be restored after this. Delete it?"),
        })
    }
}

impl Step {
    fn name(&self) -> Option<&'static str> {
        let steps = [
            (self.prepare, "prepare"),
            (self.switch, "switch"),
            (self.forget, "forget"),
        ];
        steps
            .iter()
            .find(|(is_it, _)| *is_it)
            .map(|(_, name)| *name)
    }
}

fn next_step(step: &str) -> &'static str {
    match step {
        "prepare" => {
            "Add both keys to the machines' configuration, and to host_keys of fleet.toml, if set. When all machines are up \
             to date, run: bento host-key --switch"
        }
        "switch" => {
            "The first key below is now in use. When all machines have been in contact, remove the second key from the \
             configuration and fleet.toml, and run: bento host-key --forget. Until then, another --switch goes back."
        }
        _ => "This is the only key now.",
    }
}

/// The keys of an appliance: the one in use, and the spare one if there is one.
///
/// # Errors
/// When it can't be asked.
pub(super) fn keys_of(appliance: &Appliance) -> anyhow::Result<Vec<PublicKey>> {
    match appliance {
        Appliance::Here(state, _) => {
            let used = sshd::HostKey::read(state)?;
            let spare = sshd::HostKey::spare(state)?;
            Ok([Some(used), spare]
                .into_iter()
                .flatten()
                .map(|key| key.public().clone())
                .collect())
        }
        Appliance::Remote(remote) => parse(&remote.read(["host-key"])?),
    }
}

fn parse(printed: &[u8]) -> anyhow::Result<Vec<PublicKey>> {
    let lines = String::from_utf8_lossy(printed);
    let keys: Result<Vec<PublicKey>, _> = lines.lines().map(str::parse).collect();
    let keys = keys.context("can't parse the output of `bento host-key` on the appliance")?;
    ensure!(
        !keys.is_empty(),
        "`bento host-key` on the appliance printed nothing"
    );
    Ok(keys)
}
