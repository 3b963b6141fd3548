//! Several builds at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::plan::{Job, Plan};
use super::progress::Activity;
use super::request::{End, Listener, Place};

/// How often the time that builds have taken is shown anew.
const TICK: Duration = Duration::from_millis(200);
/// How many lines may wait to be shown.
const WAITING_LINES: usize = 64;

/// What happens in the scheduler, about the job of a number.
#[derive(Debug)]
pub(super) enum Event {
    /// Something else is being done.
    Turned(usize, Activity),
    /// Nix said a line.
    Said(usize, String),
    /// It is over.
    Ended(usize, Box<End>),
    /// Some time has passed.
    Tick,
}

/// Which systems a flake holds, once somebody has asked; none if Nix didn't answer.
type Answer = Arc<OnceLock<Option<Vec<String>>>>;

/// The builds of a plan.
#[derive(Debug)]
pub(super) struct Scheduler<'a> {
    plan: &'a Plan<'a>,
    place: Place<'a>,
    /// Each tree laid before Nix, when its first job came.
    laid: Vec<OnceLock<Result<PathBuf, String>>>,
    /// Which systems a flake holds, asked once for each tree and the arguments with which it is built.
    systems: Mutex<BTreeMap<(usize, &'a [String]), Answer>>,
    next: AtomicUsize,
}

impl<'a> Scheduler<'a> {
    pub(super) fn new(plan: &'a Plan<'a>, place: Place<'a>) -> Self {
        Scheduler {
            plan,
            place,
            laid: plan.trees.iter().map(|_| OnceLock::new()).collect(),
            systems: Mutex::default(),
            next: AtomicUsize::new(0),
        }
    }

    /// Makes all builds, and tells `happens` what happens, in the order in which it does. When that fails, the work is
    /// ended, and the first failure is given.
    pub(super) fn run(
        &self,
        happens: &mut dyn FnMut(Event) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let workers = self.place.options.jobs.get().min(self.plan.jobs.len());
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(WAITING_LINES);
            for _ in 0..workers {
                let sender = sender.clone();
                scope.spawn(move || self.work(&sender));
            }
            drop(sender);
            let mut result = Ok(());
            loop {
                let event = match receiver.recv_timeout(TICK) {
                    Ok(event) => event,
                    Err(RecvTimeoutError::Timeout) => Event::Tick,
                    Err(RecvTimeoutError::Disconnected) => return result,
                };
                if result.is_ok() {
                    result = happens(event);
                    if result.is_err() {
                        self.place.interruption.want();
                    }
                }
            }
        })
    }

    fn work(&self, sender: &SyncSender<Event>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.plan.jobs.get(number) else {
                return;
            };
            let end = self.make(number, job, sender);
            // Whoever listens does so until all are through.
            let _ = sender.send(Event::Ended(number, Box::new(end)));
        }
    }

    fn make(&self, number: usize, job: &Job<'a>, sender: &SyncSender<Event>) -> End {
        if self.place.interruption.is_wanted() {
            return End::Interrupted;
        }
        let _ = sender.send(Event::Turned(number, Activity::Evaluating));
        let tree = &self.plan.trees[job.tree];
        let laid = self.laid[job.tree].get_or_init(|| self.place.lay(job.tree, tree));
        let config = match laid {
            Ok(config) => config,
            Err(error) => return End::NotTried(error.clone()),
        };
        if let Some(missing) = self.missing(job, config) {
            return End::Failed {
                essence: missing,
                log: None,
            };
        }
        let mut listener = EventSender {
            number,
            tells_lines: self.place.options.verbose,
            sender,
        };
        self.place.build(number, job, config, &mut listener)
    }

    /// What to say if the flake doesn't hold the job's system.
    fn missing(&self, job: &Job<'a>, config: &std::path::Path) -> Option<String> {
        // What other arguments make of a flake only the build itself can say.
        if !self.plan.trees[job.tree].is_flake || !job.terms.nix_args.keep_inputs() {
            return None;
        }
        let arguments = job.terms.nix_args.as_slice();
        let asked = {
            let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(systems.entry((job.tree, arguments)).or_default())
        };
        let systems = asked
            .get_or_init(|| self.place.systems(config, arguments))
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
            "the flake has no nixosConfigurations.{attribute}: {there}. Name one of them in fleet.toml, as in `attribute \
             = \"…\"`, or add this one to flake.nix"
        ))
    }
}

/// Passes on what is heard of one job.
struct EventSender<'a> {
    number: usize,
    tells_lines: bool,
    sender: &'a SyncSender<Event>,
}

impl Listener for EventSender<'_> {
    fn turns_to(&mut self, activity: Activity) {
        let _ = self.sender.send(Event::Turned(self.number, activity));
    }

    fn hears(&mut self, line: &str) {
        if self.tells_lines {
            let _ = self.sender.send(Event::Said(self.number, line.to_owned()));
        }
    }
}
