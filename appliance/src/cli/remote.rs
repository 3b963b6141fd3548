//! The appliance of a command: the one in the same container, or a remote one from `fleet.toml`.

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

/// The options that name the appliance.
#[derive(Debug, Args)]
pub struct ApplianceOption {
    /// The folder of the appliance's state, if it runs on this machine [default: /state, in the container]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The folder of the appliance's runtime files
    #[arg(long, value_name = "DIR", default_value = "/run/bento", hide = true)]
    runtime: PathBuf,
    #[command(flatten)]
    folder: FleetFolderOption,
}

/// An appliance.
#[derive(Debug)]
pub enum Appliance {
    /// Local: its state can be read here.
    Here(State, Runtime),
    /// Remote: it is reached by a command.
    Remote(Remote),
}

/// A remote appliance.
#[derive(Debug)]
pub struct Remote {
    /// `[server] admin`: never empty.
    command: Vec<String>,
}

/// A failure of the remote `bento`, which has already printed its error.
#[derive(Debug, thiserror::Error)]
#[error("the appliance failed, see the error above")]
pub struct RemoteFailed;

const STATE: &str = "/state";

impl ApplianceOption {
    /// The fleet folder: the named one, or the current one.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        self.folder.find()
    }

    /// Whether the appliance is local, or its state is named.
    pub(super) fn is_here(&self) -> bool {
        self.state.is_some() || State::new(STATE).lock().exists()
    }

    /// Finds the appliance: a named state, or that of the container, or a remote one from `[server] admin`. Prints the
    /// problems of the local `fleet.toml`; the appliance itself uses its last good one.
    ///
    /// # Errors
    /// When there is no appliance.
    pub fn find(&self) -> anyhow::Result<Appliance> {
        self.find_and_report(&mut |problem| to_stderr(&format!("bento: {problem}")))
    }

    /// Like [`Self::find`], but passes the problems of the local `fleet.toml` to `report`.
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
            "no appliance runs here: run this in its container, as in `podman exec bento bento status`, or in a fleet \
             folder with [server] admin in fleet.toml",
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
                "{}: [server] has no `admin`, the command that reaches the appliance: add for example admin = [\"podman\", \
                 \"exec\", \"-i\", \"bento\"], with \"ssh\" and the name of the host first if it runs on another host",
                place.display()
            );
        }
        Ok(Appliance::Remote(Remote { command }))
    }
}

impl Appliance {
    /// The published generations, with the manifests of the named machines.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn published(&self, names: &[HostName]) -> anyhow::Result<PublishedGenerations> {
        match self {
            Appliance::Here(state, _) => PublishedGenerations::read(state, names)
                .with_context(|| format!("can't read {}", state.hosts().display())),
            Appliance::Remote(remote) => {
                let names = names.iter().map(HostName::as_str);
                remote.read_json(["published"].into_iter().chain(names))
            }
        }
    }

    /// The changes from the published generations to a preview.
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
    /// A command that runs the remote `bento`. The arguments must not need quotes, because ssh passes them to a shell.
    pub fn bento<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg("bento");
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the remote `bento`, and returns its output; its stderr goes to ours.
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

    /// Like [`Self::read`], and parses the output as JSON.
    ///
    /// # Errors
    /// Also when the output isn't the expected document.
    pub fn read_json<'a, T: DeserializeOwned>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<T> {
        serde_json::from_slice(&self.read(arguments)?).with_context(|| {
            self.failed("printed an unknown document: is it the same version of bento?")
        })
    }

    /// Runs the remote `bento`, and copies its output; its stderr goes to ours.
    ///
    /// # Errors
    /// When it can't be run, or fails; a part may have been copied.
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
        // A remote command that still prints gets a closed pipe.
        drop(printed);
        let status = child.wait()?;
        copied?;
        match status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(RemoteFailed.into()),
            _ => bail!("{}", self.failed(&format!("ended with {status}"))),
        }
    }

    /// Runs the remote `bento` with our output, and returns its exit code.
    ///
    /// # Errors
    /// When it can't be run, or ends with an unknown exit code.
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
            // Its reader is gone.
            None if status.signal() == Some(SIGPIPE) => Ok(ExitCode::SUCCESS),
            _ => bail!("{}", self.failed(&format!("ended with {status}"))),
        }
    }

    /// The error message for a failure.
    pub fn failed(&self, what: &str) -> String {
        format!(
            "can't reach the appliance: `{} bento`, from [server] admin in {FILE_NAME}, {what}",
            self.command.join(" ")
        )
    }
}
