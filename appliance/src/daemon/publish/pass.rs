//! One pass over all machines of the fleet: scan → debounce → plan → stage → switch.
//!
//! Each phase makes one product for the next: [`HostScan`], [`HostTree`], [`HostPlan`], [`Staged`]. A machine leaves the pass
//! with its [`HostOutcome`], after any of them.

mod plan;
mod scan;
mod stage;
mod switch;

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use bento_protocol::{GenerationId, HostName, Manifest, SystemPath};
use jiff::Timestamp;
use tracing::info;

use super::PassResult;
use super::reconcile::Reconciler;
use crate::daemon::problems::ProblemSource;
use crate::fleet::{Fleet, Host};
use crate::generation::ReadError;
use crate::problem::Problem;
use crate::publication::StagedPublication;
use crate::publication::published::Published;
use crate::release::{Build, RecordError};
use crate::scan::{FleetFolder, HostTree};
use crate::store::paths::HostState;

/// One run of the reconciler over all machines.
pub(super) struct Pass<'a> {
    pub(super) reconciler: &'a mut Reconciler,
    pub(super) fleet: &'a Fleet,
    pub(super) folder: &'a FleetFolder,
    pub(super) now: Timestamp,
    /// The begin of the scan.
    pub(super) instant: Instant,
    /// The files that changed between the scan and the last byte read.
    pub(super) changed: Vec<PathBuf>,
    pub(super) result: &'a mut PassResult,
}

/// A machine in a pass.
pub(super) struct HostInPass<'a> {
    name: &'a HostName,
    host: &'a Host,
    gid: u32,
    state: HostState,
    published: Option<Published>,
    build: Option<Build>,
    /// The problems of the machine that don't stop its publication.
    problems: Vec<Problem>,
}

/// The files that a machine would get, or the problems with them.
pub(super) struct HostScan {
    tree: Result<HostTree, Vec<Problem>>,
    /// The end of its scan.
    end: Instant,
}

/// A new generation that a machine may get.
pub(super) struct HostPlan {
    manifest: Manifest,
    expected_system: Option<SystemPath>,
    tree: HostTree,
}

/// A publication that waits for the switch.
pub(super) struct Staged {
    publication: StagedPublication,
    tree: HostTree,
}

/// The outcome of a pass for one machine. Unless it is [`Self::Published`], the last publication stays.
#[derive(Debug)]
pub(super) enum HostOutcome {
    /// It got a new generation.
    Published(GenerationId),
    /// It has the generation that it should have.
    Current,
    /// Something changes: this file, where it is known.
    Unstable(Option<PathBuf>),
    /// Something is wrong in the fleet folder, or the generation may not be published yet.
    Refused(Vec<Problem>),
    /// The state can't be read or written.
    Failed(Problem),
}

impl<'a> Pass<'a> {
    /// Publishes every generation that is new and stable, and may be published.
    ///
    /// All machines are scanned before anything is written: machines that share files get them as they were in one scan,
    /// however long the rest takes.
    pub(super) fn run(mut self) {
        let scans = self.scan();
        self.publish(scans);
    }

    /// The phases after the scan.
    pub(super) fn publish(&mut self, scans: Vec<(HostInPass<'a>, HostScan)>) {
        let trees = self.each(scans, Self::debounce);
        let plans = self.each(trees, Self::plan);
        self.forget_digests();
        // Opened before anything is written: an error of write-back since then is reported to this descriptor, even if
        // another program asks for it first.
        let filesystem = File::open(self.reconciler.state.root());
        let staged = self.each(plans, Self::stage);
        // A file may have changed after it was staged for the first of the machines that share it.
        let staged = self.each(staged, Self::confirm);
        self.switch(staged, filesystem);
    }

    /// Takes each machine through a phase, and finishes those that don't reach the next one.
    pub(super) fn each<T, U>(
        &mut self,
        machines: Vec<(HostInPass<'a>, T)>,
        mut phase: impl FnMut(&mut Self, &mut HostInPass<'a>, T) -> Result<U, HostOutcome>,
    ) -> Vec<(HostInPass<'a>, U)> {
        let mut next = Vec::new();
        for (mut target, product) in machines {
            match phase(self, &mut target, product) {
                Ok(product) => next.push((target, product)),
                Err(outcome) => self.finish(target, outcome),
            }
        }
        next
    }

    /// Requires that no file of a tree has changed since the scan.
    fn require_unchanged(&self, tree: &HostTree) -> Result<(), HostOutcome> {
        match self.changed.iter().find(|file| tree.holds(file)) {
            Some(file) => Err(HostOutcome::Unstable(Some(file.clone()))),
            None => Ok(()),
        }
    }

    /// The outcome for a machine after a failed read or copy of a file.
    fn read_failed(&mut self, host: &HostName, error: ReadError) -> HostOutcome {
        match error {
            ReadError::Changed(file) => {
                self.changed.push(file.clone());
                HostOutcome::Unstable(Some(file))
            }
            ReadError::Unreadable(problem) => HostOutcome::Refused(vec![problem.of(host)]),
            ReadError::Output(error) => HostOutcome::Failed(self.reconciler.unwritable(&error)),
        }
    }

    /// Forgets the digests that this pass didn't use. Unstable trees haven't used theirs yet, and all but their changed
    /// files are known.
    fn forget_digests(&mut self) {
        let digests = &mut self.reconciler.digests;
        if !self.result.unstable || digests.is_large() {
            digests.forget_unused();
        }
    }

    /// Records the outcome for a machine.
    fn finish(&mut self, target: HostInPass<'_>, outcome: HostOutcome) {
        let HostInPass {
            name, mut problems, ..
        } = target;
        let hosts = &mut self.reconciler.debounce;
        let debounce = hosts.entry(name.clone()).or_default();
        let counters = &self.reconciler.problems.counters;
        if !matches!(outcome, HostOutcome::Unstable(_)) {
            debounce.end_wait();
        }
        match outcome {
            HostOutcome::Published(generation) => {
                counters.publications.add(1);
                info!(host = %name, generation = %generation, "published");
            }
            HostOutcome::Current => {}
            HostOutcome::Unstable(file) => {
                self.result.unstable = true;
                let Some(problem) = debounce.wait(name, file, self.instant) else {
                    // Its problems stay as they were.
                    return;
                };
                problems.push(problem);
            }
            HostOutcome::Refused(found) => problems.extend(found),
            HostOutcome::Failed(problem) => {
                counters.failed_publications.add(1);
                self.result.failed = true;
                problems.push(problem.of(name));
            }
        }
        self.set_problems(name, problems);
    }

    fn set_problems(&self, name: &HostName, problems: Vec<Problem>) {
        let source = ProblemSource::Publication(name.clone());
        self.reconciler.problems.set(source, problems);
    }
}

impl HostInPass<'_> {
    /// The name by which builds and approvals are recorded: for the account of a former name the present one.
    fn recorded_name(&self) -> &HostName {
        self.host.renamed_to.as_ref().unwrap_or(self.name)
    }
}

impl From<RecordError> for HostOutcome {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::BeingWritten(file) => HostOutcome::Unstable(Some(file)),
            RecordError::Damaged(problem) => HostOutcome::Refused(vec![problem]),
        }
    }
}
