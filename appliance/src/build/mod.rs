//! `bento build`: builds the machines' systems with the Nix of this machine, from the files of a [`Preview`], as the
//! clients do. The plan finds the distinct builds, the scheduler runs them, and the records keep their results.

mod build_folder;
mod copy;
mod interruption;
mod plan;
mod progress;
mod push;
mod records;
mod request;
mod scheduler;
mod screen;
mod ssh;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use bento_protocol::{HostName, Manifest, SystemPath};

pub(crate) use build_folder::BuildFolder;
pub(crate) use interruption::Interruption;
use plan::{Job, Plan};
pub use progress::DryRunCounts;
pub use push::{PushAction, push};
use records::Records;
use request::{BuildContext, JobResult};
use scheduler::{BuildEvent, Scheduler};
pub use screen::Screen;
pub use ssh::SshTarget;

use crate::preview::Preview;
use crate::text::terminal::to_stderr;

/// The options of a build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The number of parallel builds.
    pub jobs: NonZeroUsize,
    /// Only evaluate; nothing is built or recorded.
    pub dry_run: bool,
    /// The stores to copy the systems to, as URLs.
    pub copy_to: Vec<String>,
    /// Whether the full output of Nix goes to standard error.
    pub verbose: bool,
}

impl BuildOptions {
    /// The number of cores, at most four: each evaluation of a NixOS configuration takes one to two gigabytes of
    /// memory.
    pub fn default_jobs() -> NonZeroUsize {
        const MOST: NonZeroUsize = NonZeroUsize::new(4).expect("four isn't zero");
        std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(MOST))
    }
}

/// The outcome for one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildOutcome {
    /// Its system is in the local store, and recorded.
    Built {
        /// The system.
        system: SystemPath,
        /// Whether the machine must build the same system.
        comparable: bool,
    },
    /// A dry run: the work that a build would be.
    WouldBuild(DryRunCounts),
    /// The build failed.
    Failed {
        /// The cause, in short.
        reason: String,
        /// The file with the full output of Nix.
        log: Option<PathBuf>,
    },
    /// It was interrupted.
    Interrupted,
}

/// The outcomes for all machines.
#[derive(Debug, Default)]
pub struct BuildResults {
    /// The machines that could be published.
    pub machines: BTreeMap<HostName, BuildOutcome>,
    /// The stores that couldn't be copied to, with the cause.
    pub uncopied: Vec<(String, String)>,
    /// Whether it was interrupted.
    pub is_interrupted: bool,
}

impl BuildResults {
    /// Whether everything succeeded.
    pub fn are_good(&self) -> bool {
        let is_good = |outcome: &BuildOutcome| {
            matches!(
                outcome,
                BuildOutcome::Built { .. } | BuildOutcome::WouldBuild(_)
            )
        };
        self.machines.values().all(is_good) && self.uncopied.is_empty() && !self.is_interrupted
    }

    /// The built systems, without duplicates.
    pub fn systems(&self) -> Vec<&SystemPath> {
        let systems = self.machines.values().filter_map(|outcome| match outcome {
            BuildOutcome::Built { system, .. } => Some(system),
            _ => None,
        });
        let distinct: BTreeMap<_, _> = systems.map(|system| (system.as_str(), system)).collect();
        distinct.into_values().collect()
    }
}

/// Requires Nix for a command.
///
/// # Errors
/// When `nix` is missing.
pub fn require_nix(command: &str) -> anyhow::Result<()> {
    ensure!(
        bento_nix::version().is_some(),
        "`bento {command}` needs Nix, but no working `nix` is in PATH: run it on a machine with Nix (the appliance's \
         container has none), or install it. `bento check` works without Nix"
    );
    Ok(())
}

/// Builds the systems of all machines that would be published, records them in the fleet folder of the preview, and
/// shows progress and failures on the screen. A failed build isn't an error, but part of the results.
///
/// # Errors
/// When nothing can be built at all, or the screen can't be written.
pub fn build(
    preview: &Preview,
    fleet: &Path,
    options: &BuildOptions,
    screen: &mut Screen<'_>,
) -> anyhow::Result<BuildResults> {
    let plan = Plan::of(preview);
    let interruption = Interruption::watch()?;
    let build_folder = BuildFolder::new()?;
    let context = BuildContext {
        build_folder: &build_folder,
        fleet: &preview.folder,
        options,
        interruption: &interruption,
    };
    let mut builder = SystemBuilder {
        plan: &plan,
        records: Records {
            path: fleet,
            folder: &preview.folder,
        },
        interruption: &interruption,
        dry_run: options.dry_run,
        rows: rows(&plan),
        screen,
        results: BuildResults::default(),
    };
    builder.screen.begin(builder.rows.keys());
    Scheduler::new(&plan, context).run(&mut |event| builder.handle(event))?;
    builder.screen.draw(true)?;
    let mut results = builder.results;
    print_failures(&results, screen)?;
    results.uncopied = copy::copy_to_stores(&results.systems(), options, &interruption, screen)?;
    results.is_interrupted = interruption.is_requested();
    Ok(results)
}

/// Prints the failed machines, each cause once.
fn print_failures(results: &BuildResults, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let mut reasons: BTreeMap<&str, (Vec<&HostName>, Option<&Path>)> = BTreeMap::new();
    for (name, outcome) in &results.machines {
        if let BuildOutcome::Failed { reason, log } = outcome {
            let (names, first_log) = reasons.entry(reason).or_default();
            names.push(name);
            *first_log = first_log.or(log.as_deref());
        }
    }
    for (reason, (names, log)) in reasons {
        let what = match names.as_slice() {
            [name] => format!("the build of {name} failed:"),
            names => {
                let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                format!("the builds of {} failed:", names.join(", "))
            }
        };
        screen.print_error(&what, reason)?;
        if let Some(log) = log {
            screen.print_line(&format!("  full output of Nix: {}", log.display()))?;
        }
    }
    Ok(())
}

/// Each machine's row in the table.
fn rows(plan: &Plan<'_>) -> BTreeMap<HostName, usize> {
    let names: BTreeSet<_> = plan.jobs.iter().flat_map(Job::names).cloned().collect();
    names.into_iter().zip(0..).collect()
}

/// Handles the events of the scheduler, and keeps the results.
struct SystemBuilder<'a, 's, 'o> {
    plan: &'a Plan<'a>,
    records: Records<'a>,
    interruption: &'a Interruption,
    dry_run: bool,
    rows: BTreeMap<HostName, usize>,
    screen: &'s mut Screen<'o>,
    results: BuildResults,
}

impl SystemBuilder<'_, '_, '_> {
    fn handle(&mut self, event: BuildEvent) -> anyhow::Result<()> {
        match event {
            BuildEvent::StepChanged(job, step) => {
                let machines: Vec<_> = self.plan.jobs[job]
                    .names()
                    .map(|name| self.rows[name])
                    .collect();
                self.screen.set_step(&machines, &step)?;
            }
            BuildEvent::Output(job, line) => {
                to_stderr(&format!("{}> {line}", self.plan.jobs[job].host()))
            }
            BuildEvent::Finished(job, result) => self.finish(job, &result)?,
            BuildEvent::Tick => {}
        }
        self.screen.draw(false)?;
        Ok(())
    }

    fn finish(&mut self, job: usize, result: &JobResult) -> anyhow::Result<()> {
        let job = &self.plan.jobs[job];
        for manifest in &job.machines {
            let outcome = match self.outcome(job, manifest, result) {
                Ok(outcome) => outcome,
                Err(_) if self.interruption.is_requested() => BuildOutcome::Interrupted,
                Err(error) => BuildOutcome::Failed {
                    reason: format!("{error:#}"),
                    log: None,
                },
            };
            let name = manifest.host();
            self.screen.set_outcome(self.rows[name], &outcome)?;
            self.results.machines.insert(name.clone(), outcome);
        }
        Ok(())
    }

    /// Records the result for a machine, and returns its outcome.
    fn outcome(
        &self,
        job: &Job<'_>,
        manifest: &Manifest,
        result: &JobResult,
    ) -> anyhow::Result<BuildOutcome> {
        let failed = |reason: &str, log| BuildOutcome::Failed {
            reason: reason.to_owned(),
            log,
        };
        Ok(match result {
            JobResult::Built(system) => {
                let is_pinned = self.plan.trees[job.tree].is_pinned;
                // With self_update, the machine builds another system of the same generation.
                let moves = manifest.policy().terms().self_update;
                let comparable = is_pinned && !moves && job.terms.nix_args.keep_inputs();
                self.records
                    .record(manifest, system, comparable, self.interruption)?;
                BuildOutcome::Built {
                    system: system.clone(),
                    comparable,
                }
            }
            JobResult::WouldBuild(counts) => BuildOutcome::WouldBuild(*counts),
            JobResult::Failed { reason, log } => {
                let mut reason = reason.clone();
                let taken_back = match self.dry_run {
                    true => Ok(()),
                    false => self.records.remove(manifest),
                };
                if let Err(error) = taken_back {
                    reason += &format!("\n{error:#}");
                }
                let keep_log = |log: &PathBuf| self.records.keep_log(manifest.host(), log).ok();
                failed(&reason, log.as_ref().and_then(keep_log))
            }
            JobResult::NotTried(reason) => failed(reason, None),
            JobResult::Interrupted => BuildOutcome::Interrupted,
        })
    }
}
