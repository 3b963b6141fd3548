//! `bento build`: builds the systems that would be published.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use bento_protocol::{GenerationId, HostName, SystemPath};
use clap::Args;
use serde::Serialize;

use super::completion;
use super::fleet_folder::FleetFolderOption;
use super::prompt::ConfirmOption;
use crate::build;
use crate::build::{BuildOptions, BuildOutcome, BuildResults, PushAction, Screen, SshTarget};
use crate::preview::Preview;
use crate::problem::{Problem, lines};
use crate::text::terminal::{Colour, Terminal, paint};

/// Build the machines' systems with the Nix of this machine, from the files that would be published
#[derive(Debug, Args)]
pub struct BuildCommand {
    /// Build only these machines
    #[arg(value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    /// Only evaluate, and print what would be built and fetched
    #[arg(long, conflicts_with = "copy_to")]
    dry_run: bool,
    /// The number of systems to build in parallel [default: the number of cores, at most 4]
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Copy the built systems to this store, too, such as file:///srv/cache or ssh://cache; can be repeated
    #[arg(long, value_name = "STORE")]
    copy_to: Vec<String>,
    /// Print the full output of Nix
    #[arg(long, short = 'L', short_alias = 'v')]
    verbose: bool,
    /// Print the result as JSON; progress goes to standard error
    #[arg(long)]
    json: bool,
    /// Copy the one machine's system to this host over ssh, such as root@web.example.org, and activate it there
    #[arg(long, value_name = "HOST", conflicts_with_all = ["dry_run", "json"])]
    target: Option<SshTarget>,
    /// How to activate it on the target
    #[arg(long, value_enum, requires = "target", default_value_t = PushAction::Test)]
    action: PushAction,
    #[command(flatten)]
    confirm: ConfirmOption,
    #[command(flatten)]
    folder: FleetFolderOption,
}

/// The exit code after Ctrl-C, as in a shell.
pub(super) const INTERRUPTED: u8 = 130;

impl BuildCommand {
    /// Builds the systems.
    ///
    /// # Errors
    /// When there is no fleet, no machine of a given name, or no Nix. Failed builds aren't errors: they are printed,
    /// and change the exit code.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<ExitCode> {
        if self.target.is_some() && self.names.len() != 1 {
            bail!("--target needs exactly one machine name");
        }
        let fleet = self.folder.find()?;
        let preview = Preview::make(&fleet, &self.names)?;
        build::require_nix("build")?;
        let options = BuildOptions {
            jobs: self.jobs.unwrap_or_else(BuildOptions::default_jobs),
            dry_run: self.dry_run,
            copy_to: self.copy_to.clone(),
            verbose: self.verbose,
        };
        let mut errors = std::io::stderr();
        let (shown, terminal): (&mut dyn Write, _) = match self.json {
            true => (&mut errors, None),
            false => (&mut *output, Terminal::of_output()),
        };
        let mut screen = Screen::new(shown, terminal, self.verbose);
        for line in lines(&preview.problems) {
            let mark = paint("error:", Colour::Red, terminal);
            screen.print_line(&format!("{mark} {line}"))?;
        }
        let results = build::build(&preview, &fleet, &options, &mut screen)?;
        screen.print_line(&summary(&preview, &results))?;
        let is_good = results.are_good() && preview.problems.is_empty();
        if let (Some(target), true) = (&self.target, is_good)
            && !self.push(target, &results, &mut screen)?
        {
            screen.print_line("Nothing was copied.")?;
            return Ok(ExitCode::FAILURE);
        }
        if self.json {
            serde_json::to_writer_pretty(&mut *output, &BuildDocument::of(&preview, &results))?;
            writeln!(output)?;
        }
        Ok(if results.is_interrupted {
            ExitCode::from(INTERRUPTED)
        } else if is_good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl BuildCommand {
    /// Pushes the system of the one machine, if the user agrees.
    fn push(
        &self,
        target: &SshTarget,
        results: &BuildResults,
        screen: &mut Screen<'_>,
    ) -> anyhow::Result<bool> {
        let built = results
            .machines
            .iter()
            .find_map(|(name, outcome)| match outcome {
                BuildOutcome::Built { system, .. } => Some((name, system)),
                _ => None,
            });
        let Some((host, system)) = built else {
            return Ok(false);
        };
        let confirm = |question: &str| self.confirm.ask(question);
        build::push(host, system, (target, self.action), &confirm, screen)
    }
}

/// The counts of all outcomes, in one line.
fn summary(preview: &Preview, results: &BuildResults) -> String {
    let count =
        |is: fn(&BuildOutcome) -> bool| results.machines.values().filter(|it| is(it)).count();
    let stopped = preview.machines.values().filter(|it| it.is_none()).count();
    let counts = [
        (
            count(|it| matches!(it, BuildOutcome::Built { .. })),
            "built",
        ),
        (
            count(|it| matches!(it, BuildOutcome::WouldBuild(_))),
            "evaluated",
        ),
        (
            count(|it| matches!(it, BuildOutcome::Failed { .. })),
            "failed",
        ),
        (
            count(|it| matches!(it, BuildOutcome::Interrupted)),
            "interrupted",
        ),
        (stopped, "can't be published"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    match counts.as_slice() {
        [] if preview.fleet.is_some() => "Nothing to build: the fleet has no machines.".to_owned(),
        [] => "Nothing was built.".to_owned(),
        counts => format!("{}.", counts.join(", ")),
    }
}

/// The document of `bento build --json`.
#[derive(Debug, Serialize)]
struct BuildDocument<'a> {
    format: bento_protocol::Format,
    hosts: Vec<BuiltHost<'a>>,
    uncopied: Vec<FailedCopy<'a>>,
    problems: &'a [Problem],
}

/// The outcome of one machine.
#[derive(Debug, Serialize)]
struct BuiltHost<'a> {
    name: &'a HostName,
    /// None if a problem prevents its publication.
    generation: Option<GenerationId>,
    /// `built`, `evaluated`, `failed`, `interrupted` or `unpublishable`.
    outcome: &'static str,
    system: Option<&'a SystemPath>,
    comparable: Option<bool>,
    to_build: Option<usize>,
    to_fetch: Option<usize>,
    error: Option<&'a str>,
    log: Option<&'a PathBuf>,
}

/// A store that couldn't be copied to.
#[derive(Debug, Serialize)]
struct FailedCopy<'a> {
    store: &'a str,
    error: &'a str,
}

impl<'a> BuildDocument<'a> {
    fn of(preview: &'a Preview, results: &'a BuildResults) -> Self {
        let hosts = preview.machines.iter().map(|(name, host_preview)| {
            let generation = host_preview.as_ref().map(|it| it.manifest.generation());
            BuiltHost::of(name, generation, results.machines.get(name))
        });
        let uncopied = results.uncopied.iter();
        BuildDocument {
            format: bento_protocol::Format,
            hosts: hosts.collect(),
            uncopied: uncopied
                .map(|(store, error)| FailedCopy { store, error })
                .collect(),
            problems: &preview.problems,
        }
    }
}

impl<'a> BuiltHost<'a> {
    fn of(
        name: &'a HostName,
        generation: Option<GenerationId>,
        outcome: Option<&'a BuildOutcome>,
    ) -> Self {
        let mut host = BuiltHost {
            name,
            generation,
            outcome: "unpublishable",
            system: None,
            comparable: None,
            to_build: None,
            to_fetch: None,
            error: None,
            log: None,
        };
        match outcome {
            None => {}
            Some(BuildOutcome::Built { system, comparable }) => {
                host.outcome = "built";
                host.system = Some(system);
                host.comparable = Some(*comparable);
            }
            Some(BuildOutcome::WouldBuild(effort)) => {
                host.outcome = "evaluated";
                host.to_build = Some(effort.to_build);
                host.to_fetch = Some(effort.to_fetch);
            }
            Some(BuildOutcome::Failed { reason, log }) => {
                host.outcome = "failed";
                host.error = Some(reason);
                host.log = log.as_ref();
            }
            Some(BuildOutcome::Interrupted) => host.outcome = "interrupted",
        }
        host
    }
}
