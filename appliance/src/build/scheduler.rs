//! Runs the builds of a plan in parallel.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::plan::{Job, Plan};
use super::progress::BuildStep;
use super::request::{BuildContext, EventSink, JobResult};

/// The interval at which elapsed times are redrawn.
const TICK: Duration = Duration::from_millis(200);
/// The capacity of the queue of events.
const WAITING_LINES: usize = 64;

/// An event of the scheduler, with the index of the job.
#[derive(Debug)]
pub(super) enum BuildEvent {
    /// The job is at another step.
    StepChanged(usize, BuildStep),
    /// Nix printed a line.
    Output(usize, String),
    /// The job is done.
    Finished(usize, Box<JobResult>),
    /// An interval has passed.
    Tick,
}

/// The systems in a flake, once they were read; none if Nix failed.
type FlakeSystems = Arc<OnceLock<Option<Vec<String>>>>;

/// The builds of a plan.
#[derive(Debug)]
pub(super) struct Scheduler<'a> {
    plan: &'a Plan<'a>,
    context: BuildContext<'a>,
    /// The folder of each tree, written for its first job.
    configs: Vec<OnceLock<Result<PathBuf, String>>>,
    /// The systems in each flake, read once for each tree and its build arguments.
    systems: Mutex<BTreeMap<(usize, &'a [String]), FlakeSystems>>,
    next: AtomicUsize,
}

impl<'a> Scheduler<'a> {
    pub(super) fn new(plan: &'a Plan<'a>, context: BuildContext<'a>) -> Self {
        Scheduler {
            plan,
            context,
            configs: plan.trees.iter().map(|_| OnceLock::new()).collect(),
            systems: Mutex::default(),
            next: AtomicUsize::new(0),
        }
    }

    /// Runs all builds, and passes events to `handle` in their order. If `handle` fails, all builds are ended, and its
    /// first error is returned.
    pub(super) fn run(
        &self,
        handle: &mut dyn FnMut(BuildEvent) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let workers = self.context.options.jobs.get().min(self.plan.jobs.len());
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(WAITING_LINES);
            for _ in 0..workers {
                let sender = sender.clone();
                scope.spawn(move || self.run_worker(&sender));
            }
            drop(sender);
            let mut result = Ok(());
            loop {
                let event = match receiver.recv_timeout(TICK) {
                    Ok(event) => event,
                    Err(RecvTimeoutError::Timeout) => BuildEvent::Tick,
                    Err(RecvTimeoutError::Disconnected) => return result,
                };
                if result.is_ok() {
                    result = handle(event);
                    if result.is_err() {
                        self.context.interruption.request();
                    }
                }
            }
        })
    }

    fn run_worker(&self, sender: &SyncSender<BuildEvent>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.plan.jobs.get(number) else {
                return;
            };
            let result = self.run_job(number, job, sender);
            // The receiver lives until all workers are done.
            let _ = sender.send(BuildEvent::Finished(number, Box::new(result)));
        }
    }

    fn run_job(&self, number: usize, job: &Job<'a>, sender: &SyncSender<BuildEvent>) -> JobResult {
        if self.context.interruption.is_requested() {
            return JobResult::Interrupted;
        }
        let _ = sender.send(BuildEvent::StepChanged(number, BuildStep::Evaluating));
        let tree = &self.plan.trees[job.tree];
        let written =
            self.configs[job.tree].get_or_init(|| self.context.write_tree(job.tree, tree));
        let config = match written {
            Ok(config) => config,
            Err(error) => return JobResult::NotTried(error.clone()),
        };
        if let Some(reason) = self.missing_system(job, config) {
            return JobResult::Failed { reason, log: None };
        }
        let mut sink = JobSink {
            number,
            verbose: self.context.options.verbose,
            sender,
        };
        self.context.build(number, job, config, &mut sink)
    }

    /// The error message if the flake doesn't have the job's system.
    fn missing_system(&self, job: &Job<'a>, config: &std::path::Path) -> Option<String> {
        // With other arguments, only the build itself can know.
        if !self.plan.trees[job.tree].is_flake || !job.terms.nix_args.keep_inputs() {
            return None;
        }
        let arguments = job.terms.nix_args.as_slice();
        let asked = {
            let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(systems.entry((job.tree, arguments)).or_default())
        };
        let systems = asked
            .get_or_init(|| self.context.systems(config, arguments))
            .as_ref()?;
        let attribute = bento_nix::attribute(job.host(), job.terms);
        if systems.iter().any(|name| name == attribute) {
            return None;
        }
        let there = match systems.as_slice() {
            [] => "it has none".to_owned(),
            names => format!("it has {}", names.join(", ")),
        };
        Some(format!(
            "the flake has no nixosConfigurations.{attribute}: {there}. Set `attribute = \"…\"` in fleet.toml to one of them, \
             or add this one to flake.nix"
        ))
    }
}

/// Sends the events of one job.
struct JobSink<'a> {
    number: usize,
    verbose: bool,
    sender: &'a SyncSender<BuildEvent>,
}

impl EventSink for JobSink<'_> {
    fn step(&mut self, step: BuildStep) {
        let _ = self.sender.send(BuildEvent::StepChanged(self.number, step));
    }

    fn line(&mut self, line: &str) {
        if self.verbose {
            let _ = self
                .sender
                .send(BuildEvent::Output(self.number, line.to_owned()));
        }
    }
}
