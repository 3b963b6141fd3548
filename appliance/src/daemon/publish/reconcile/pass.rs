//! The publication of a fleet in one look.

use std::fs;
use std::io;
use std::path::PathBuf;

use tracing::info;

use super::super::host_plan::{HostPlan, PassInput, StableTree, Staged, Withheld};
use super::{Reconciler, copy_of, made_room, remove_unfinished};
use crate::daemon::problems::ProblemSource;
use crate::problem::Problem;
use crate::publication::Publications;
use crate::scan::Sources;

/// How far the publication of a fleet came.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) unsettled: bool,
    pub(super) failed: bool,
}

/// A machine in a look, and what is told of it.
pub(super) struct PlannedHost<'a> {
    plan: HostPlan<'a>,
    problems: Vec<Problem>,
}

/// With what it gets, if it has settled.
pub(super) type Planned<'a> = (PlannedHost<'a>, Result<StableTree, Withheld>);

impl Reconciler {
    /// Publishes what has changed and settled. All machines are looked at before anything is written: so those that
    /// share files get them as they were in one look, however long it takes.
    pub(super) fn publish(&mut self, input: &PassInput<'_>) -> Progress {
        let cases = self.scan(input);
        self.stage_and_switch(input, cases)
    }

    /// Prepares what is to be published, makes all of it durable at once, and only then switches. Who shares a file that
    /// has changed since it was looked at waits with the others.
    pub(super) fn stage_and_switch(
        &mut self,
        input: &PassInput<'_>,
        cases: Vec<Planned<'_>>,
    ) -> Progress {
        let mut progress = Progress::default();
        // Opened before anything is written: what can't be written back meanwhile is then told to us, whoever else
        // asks for it first.
        let filesystem = fs::File::open(self.state.root());
        let (mut restless, mut prepared) = (Vec::new(), Vec::new());
        for (case, settled) in cases {
            let waiting = settled.and_then(|settled| {
                let PlannedHost { plan, .. } = &case;
                let settling = self.trees.entry(plan.name.clone()).or_default();
                let digests = &mut self.digests;
                plan.prepare(input, settled, settling, digests, &mut restless)
            });
            match waiting {
                Ok(waiting) => prepared.push((case, waiting)),
                Err(withheld) => self.conclude(case, withheld, &mut progress),
            }
        }
        let mut due = Vec::new();
        for (case, waiting) in prepared {
            match self.hold(input, &case, &waiting, &restless) {
                None => due.push((case, waiting)),
                Some(withheld) => self.conclude(case, withheld, &mut progress),
            }
        }
        // Of a tree that hasn't settled nobody asked yet, and all but the change in it is known.
        if !progress.unsettled || self.digests.is_large() {
            self.digests.forget_unused();
        }
        if !due.is_empty() {
            self.switch(due, filesystem, &mut progress);
        }
        progress
    }

    /// Looks at what each machine gets.
    pub(super) fn scan<'a>(&mut self, input: &PassInput<'a>) -> Vec<Planned<'a>> {
        let mut sources = Sources::new(input.folder, std::mem::take(&mut self.listings));
        let mut cases = Vec::new();
        for (name, host) in &input.fleet.hosts {
            let of_host = |problem: &&Problem| problem.host.as_ref() == Some(name);
            let problems = self.settings.problems.iter().filter(of_host);
            let mut problems: Vec<_> = problems.cloned().collect();
            let Some(account) = self.registrar.accounts().get(name) else {
                // Why it has no account yet, is told.
                self.problems
                    .set(ProblemSource::Publication(name.clone()), problems);
                continue;
            };
            let plan = HostPlan {
                name,
                host,
                gid: account.uid,
                state: self.state.host(name),
            };
            let settling = self.trees.entry(name.clone()).or_default();
            let settled = plan.scan(input, &mut sources, settling, &mut problems);
            let case = PlannedHost { plan, problems };
            cases.push((case, settled));
        }
        self.listings = sources.into_listings();
        cases
    }

    /// Takes back what was prepared before one of its files turned out to have changed.
    fn hold(
        &mut self,
        input: &PassInput<'_>,
        case: &PlannedHost<'_>,
        waiting: &Staged,
        restless: &[PathBuf],
    ) -> Option<Withheld> {
        let PlannedHost { plan, .. } = case;
        let settling = self.trees.entry(plan.name.clone()).or_default();
        let held = plan.hold(input, &waiting.tree, settling, restless);
        match held {
            Some(_) => remove_unfinished(&plan.state, plan.name),
            None => settling.rest(),
        }
        held
    }

    /// Tells what became of a machine that gets nothing now.
    fn conclude(&self, case: PlannedHost<'_>, withheld: Withheld, progress: &mut Progress) {
        let PlannedHost {
            plan: HostPlan { name, .. },
            mut problems,
        } = case;
        match withheld {
            Withheld::Current => {}
            Withheld::Unsettled(None) => {
                progress.unsettled = true;
                return;
            }
            Withheld::Unsettled(Some(problem)) => {
                progress.unsettled = true;
                problems.push(problem);
            }
            Withheld::Faulty(found) => problems.extend(found),
            Withheld::Failed(error) => {
                self.problems.activity.failed_publications.add(1);
                progress.failed = true;
                problems.push(self.state_problem(&error).of(name));
            }
        }
        self.problems
            .set(ProblemSource::Publication(name.clone()), problems);
    }

    /// Makes what is prepared durable, and publishes it.
    fn switch(
        &self,
        prepared: Vec<(PlannedHost<'_>, Box<Staged>)>,
        filesystem: io::Result<fs::File>,
        progress: &mut Progress,
    ) {
        // One call for all of them: an fsync for each of thousands of files would take minutes.
        let synced = filesystem.and_then(|filesystem| Ok(rustix::fs::syncfs(filesystem)?));
        if synced.is_ok() {
            // Before machines see it: who finds the new generation mustn't be told any more why there is none.
            for (case, _) in &prepared {
                let source = ProblemSource::Publication(case.plan.name.clone());
                self.problems.set(source, case.problems.clone());
            }
            self.problems.write();
        }
        for (case, waiting) in prepared {
            let HostPlan { name, state, .. } = &case.plan;
            let (generation, mut problems) = (waiting.generation, case.problems);
            let switched = synced
                .as_ref()
                .map_err(copy_of)
                .and_then(|()| Publications::of(state).switch(waiting.publication));
            match switched {
                Ok(()) => {
                    self.problems.activity.publications.add(1);
                    info!(host = %name, generation = %generation, "published");
                }
                Err(error) => {
                    self.problems.activity.failed_publications.add(1);
                    remove_unfinished(state, name);
                    // For the next try.
                    made_room(&self.state, &error);
                    progress.failed = true;
                    problems.push(self.state_problem(&error).of(name));
                }
            }
            let source = ProblemSource::Publication((*name).clone());
            self.problems.set(source, problems);
        }
    }
}
