//! The appliance that a command asks: the one whose container it runs in, or the one that `fleet.toml` leads to.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use bento_protocol::{HostName, Manifest};
use clap::Args;
use serde::de::DeserializeOwned;
use signal_hook::consts::SIGPIPE;

use super::fleet_folder::{FleetFolderOption, read_settings};
use crate::fleet::{self, FILE_NAME};
use crate::preview::Preview;
use crate::preview::change::{FleetChanges, HostChange, PublishedGenerations};
use crate::problem::Problem;
use crate::store::paths::{Runtime, State};
use crate::text::terminal::to_stderr;

/// Where the appliance is.
#[derive(Debug, Args)]
pub struct ApplianceOption {
    /// What the appliance keeps, where it runs on this machine [default: /state, in the container]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where it keeps what lives as long as the container
    #[arg(long, value_name = "DIR", default_value = "/run/bento", hide = true)]
    runtime: PathBuf,
    #[command(flatten)]
    folder: FleetFolderOption,
}

/// An appliance.
#[derive(Debug)]
pub enum Appliance {
    /// Its state is to be read here.
    Here(State, Runtime),
    /// It is to be asked.
    Remote(Remote),
}

/// An appliance that is reached by a command.
#[derive(Debug)]
pub struct Remote {
    /// `[server] admin`: never empty.
    command: Vec<String>,
}

/// The `bento` that was asked elsewhere has said on our stderr why it failed.
#[derive(Debug, thiserror::Error)]
#[error("the appliance has said above why it can't answer")]
pub struct RemoteFailed;

const STATE: &str = "/state";

impl ApplianceOption {
    /// The fleet folder: the one that was named, or the one in which somebody stands.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        self.folder.find()
    }

    /// Whether the appliance runs here, or what it keeps was named.
    pub(super) fn is_here(&self) -> bool {
        self.state.is_some() || State::new(STATE).lock().exists()
    }

    /// Finds the appliance: a state that is named, or the container's own; else the one that the fleet's
    /// `[server] admin` leads to.
    ///
    /// # Errors
    /// When there is neither.
    ///
    /// What is wrong with `fleet.toml` here is said: the appliance goes on by the last good one, and can be asked.
    pub fn find(&self) -> anyhow::Result<Appliance> {
        self.find_and_report(&mut |problem| to_stderr(&format!("bento: {problem}")))
    }

    /// The same, which leaves it to the caller to say what is wrong with `fleet.toml` here.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(super) fn find_and_report(
        &self,
        report: &mut dyn FnMut(&Problem),
    ) -> anyhow::Result<Appliance> {
        let here = |state: &Path| Appliance::Here(State::new(state), Runtime::new(&self.runtime));
        if let Some(state) = &self.state {
            return Ok(here(state));
        }
        if State::new(STATE).lock().exists() {
            return Ok(here(Path::new(STATE)));
        }
        let folder = self.folder.find().context(
            "no appliance runs here: run this in its container, as in `podman exec bento bento status`, or from a \
             fleet whose fleet.toml says how to reach it",
        )?;
        let place = folder.join(FILE_NAME);
        let text = read_settings(&folder)?;
        let command = match fleet::read(&text) {
            Ok(reading) => reading.fleet.server.admin,
            Err(problems) => {
                let admin = fleet::admin(&text).with_context(|| {
                    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                    problems.join("\n")
                })?;
                problems.iter().for_each(report);
                admin
            }
        };
        if command.is_empty() {
            bail!(
                "{}: [server] has no `admin`, the command that reaches the appliance from here: say for example \
                 admin = [\"podman\", \"exec\", \"-i\", \"bento\"], with \"ssh\" and the server's name before it if \
                 it runs elsewhere",
                place.display()
            );
        }
        Ok(Appliance::Remote(Remote { command }))
    }
}

impl Appliance {
    /// What it publishes; manifests only of the machines that are named.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn published(&self, names: &[HostName]) -> anyhow::Result<PublishedGenerations> {
        match self {
            Appliance::Here(state, _) => PublishedGenerations::read(state, names)
                .with_context(|| format!("{} can't be read", state.hosts().display())),
            Appliance::Remote(remote) => {
                let names = names.iter().map(HostName::as_str);
                remote.read_json(["published"].into_iter().chain(names))
            }
        }
    }

    /// What would become different by a preview.
    ///
    /// # Errors
    /// When the appliance can't be asked.
    pub fn changes(&self, preview: &Preview) -> anyhow::Result<FleetChanges> {
        let generations = self.published(&[])?.generations;
        let is_gone = |name: &&HostName| {
            let fleet = preview.fleet.as_ref();
            fleet.is_some_and(|fleet| !fleet.is_former_name(name)) && !preview.has(name)
        };
        let gone = generations.keys().filter(is_gone).cloned().collect();
        let host_previews = preview.machines.values().flatten();
        let news: Vec<&Manifest> = host_previews
            .map(|host_preview| &host_preview.manifest)
            .filter(|new| generations.get(new.host()) != Some(&new.generation()))
            .collect();
        let names: Vec<HostName> = news.iter().map(|new| new.host().clone()).collect();
        let olds = match names.is_empty() {
            true => Vec::new(),
            false => self.published(&names)?.manifests,
        };
        let old = |new: &Manifest| olds.iter().find(|old| old.host() == new.host());
        let machines = news
            .into_iter()
            .map(|new| HostChange::between(old(new), new));
        Ok(FleetChanges {
            machines: machines.collect(),
            gone,
        })
    }
}

impl Remote {
    /// `bento` there, with these arguments. They must be words without anything that a shell would take apart, since
    /// ssh hands them to one.
    pub fn bento<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg("bento");
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// What `bento` prints there; what it says on stderr goes to ours.
    ///
    /// # Errors
    /// When it can't be run, or fails.
    pub fn read<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<Vec<u8>> {
        let mut command = self.bento(arguments);
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| self.failed("can't be run"))?;
        match output.status.code() {
            Some(0) => Ok(output.stdout),
            Some(1) => Err(RemoteFailed.into()),
            _ => bail!("{}", self.failed(&format!("ended with {}", output.status))),
        }
    }

    /// The same, of what it prints as JSON.
    ///
    /// # Errors
    /// Also when it prints anything else.
    pub fn read_json<'a, T: DeserializeOwned>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<T> {
        serde_json::from_slice(&self.read(arguments)?).with_context(|| {
            self.failed("printed what isn't understood here: is the same version of bento there?")
        })
    }

    /// Copies what `bento` prints there; what it says on stderr goes to ours.
    ///
    /// # Errors
    /// When it can't be run, or fails; some of it may have been copied by then.
    pub fn copy<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
        output: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let mut command = self.bento(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| self.failed("can't be run"))?;
        let mut printed = child.stdout.take().context("a pipe was asked for")?;
        let copied = io::copy(&mut printed, output);
        // Whoever still prints is told that nobody reads.
        drop(printed);
        let status = child.wait()?;
        copied?;
        match status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(RemoteFailed.into()),
            _ => bail!("{}", self.failed(&format!("ended with {status}"))),
        }
    }

    /// Runs `bento` there, and lets it print here; its exit code is ours.
    ///
    /// # Errors
    /// When it can't be run, or ends as `bento` never does.
    pub fn relay<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<ExitCode> {
        let status = self
            .bento(arguments)
            .status()
            .with_context(|| self.failed("can't be run"))?;
        match status.code() {
            Some(0) => Ok(ExitCode::SUCCESS),
            Some(1) => Ok(ExitCode::FAILURE),
            // Nobody reads on.
            None if status.signal() == Some(SIGPIPE) => Ok(ExitCode::SUCCESS),
            _ => bail!("{}", self.failed(&format!("ended with {status}"))),
        }
    }

    /// What to say when it failed.
    pub fn failed(&self, what: &str) -> String {
        format!(
            "the appliance can't be asked: `{} bento`, as [server] admin in {FILE_NAME} says, {what}",
            self.command.join(" ")
        )
    }
}
