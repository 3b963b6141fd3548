//! Builds machines' systems with the Nix of this machine, from exactly what would be published for them, as their
//! clients do: a [`Preview`] says what that is, the plan what of it is built once, the scheduler builds, and the records
//! keep what came out.

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

/// How to build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// How many systems at once.
    pub jobs: NonZeroUsize,
    /// Only to look what there is to do; nothing is recorded.
    pub dry_run: bool,
    /// Stores to which all that was built is copied, as URLs.
    pub copy_to: Vec<String>,
    /// Whether all that Nix says goes to standard error.
    pub verbose: bool,
}

impl BuildOptions {
    /// As many at once as there are cores, but not more than four: each evaluation of a NixOS configuration takes one
    /// to two gigabytes of memory.
    pub fn default_jobs() -> NonZeroUsize {
        const MOST: NonZeroUsize = NonZeroUsize::new(4).expect("four isn't zero");
        std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(MOST))
    }
}

/// What came of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildOutcome {
    /// Its system is in this machine's store, and recorded.
    Built {
        /// The system.
        system: SystemPath,
        /// Whether the machine must come to the same.
        comparable: bool,
    },
    /// Its system would be there after this.
    WouldBuild(DryRunCounts),
    /// It has no system.
    Failed {
        /// Why not, in short.
        reason: String,
        /// Where all is that Nix said of it.
        log: Option<PathBuf>,
    },
    /// Somebody wanted to stop before it was there.
    Interrupted,
}

/// What came of all.
#[derive(Debug, Default)]
pub struct BuildResults {
    /// The machines for which something could be published.
    pub machines: BTreeMap<HostName, BuildOutcome>,
    /// The stores to which it couldn't be copied, and why.
    pub uncopied: Vec<(String, String)>,
    /// Whether somebody wanted to stop.
    pub is_interrupted: bool,
}

impl BuildResults {
    /// Whether all is as it should be.
    pub fn are_good(&self) -> bool {
        let is_good = |outcome: &BuildOutcome| {
            matches!(
                outcome,
                BuildOutcome::Built { .. } | BuildOutcome::WouldBuild(_)
            )
        };
        self.machines.values().all(is_good) && self.uncopied.is_empty() && !self.is_interrupted
    }

    /// The systems that were built, each once.
    pub fn systems(&self) -> Vec<&SystemPath> {
        let systems = self.machines.values().filter_map(|outcome| match outcome {
            BuildOutcome::Built { system, .. } => Some(system),
            _ => None,
        });
        let distinct: BTreeMap<_, _> = systems.map(|system| (system.as_str(), system)).collect();
        distinct.into_values().collect()
    }
}

/// Makes sure that there is Nix, for a command that needs it.
///
/// # Errors
/// When there is none.
pub fn require_nix(command: &str) -> anyhow::Result<()> {
    ensure!(
        bento_nix::version().is_some(),
        "`bento {command}` needs Nix, and there is no `nix` in PATH that works: run it on a machine that has it (the \
         appliance's container has none), or install it. `bento check` needs none"
    );
    Ok(())
}

/// Builds the systems of all machines for which something would be published, records them in the fleet folder that was
/// looked at, and shows it on the screen: how it goes on, and of each that failed why. That some failed is no error, but
/// in the results.
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

/// Says why machines have no system, once for those that have the same reason.
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
            [name] => format!("{name} has no new system:"),
            names => {
                let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                format!("{} have no new system:", names.join(", "))
            }
        };
        screen.print_error(&what, reason)?;
        if let Some(log) = log {
            screen.print_line(&format!("  All that Nix said: {}", log.display()))?;
        }
    }
    Ok(())
}

/// Which line of the table each machine has.
fn rows(plan: &Plan<'_>) -> BTreeMap<HostName, usize> {
    let names: BTreeSet<_> = plan.jobs.iter().flat_map(Job::names).cloned().collect();
    names.into_iter().zip(0..).collect()
}

/// Watches the work, and keeps what comes out of it.
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

    /// Keeps what came of a machine.
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
                // Whoever moves its inputs by itself builds another system of the same generation.
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
