//! The publication of a fleet in one look.

use std::fs;
use std::io;
use std::path::PathBuf;

use tracing::info;

use super::super::host_plan::{Candidate, Look, Settled, Verdict, Waiting};
use super::{Publisher, copy_of, made_room, remove_unfinished};
use crate::daemon::problems::Source;
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
pub(super) struct Case<'a> {
    candidate: Candidate<'a>,
    problems: Vec<Problem>,
}

/// With what it gets, if it has settled.
pub(super) type Surveyed<'a> = (Case<'a>, Result<Settled, Verdict>);

impl Publisher {
    /// Publishes what has changed and settled. All machines are looked at before anything is written: so those that
    /// share files get them as they were in one look, however long it takes.
    pub(super) fn publish(&mut self, look: &Look<'_>) -> Progress {
        let cases = self.survey(look);
        self.issue(look, cases)
    }

    /// Prepares what is to be published, makes all of it durable at once, and only then switches. Who shares a file that
    /// has changed since it was looked at waits with the others.
    pub(super) fn issue(&mut self, look: &Look<'_>, cases: Vec<Surveyed<'_>>) -> Progress {
        let mut progress = Progress::default();
        // Opened before anything is written: what can't be written back meanwhile is then told to us, whoever else
        // asks for it first.
        let filesystem = fs::File::open(self.state.root());
        let (mut restless, mut prepared) = (Vec::new(), Vec::new());
        for (case, settled) in cases {
            let waiting = settled.and_then(|settled| {
                let Case { candidate, .. } = &case;
                let settling = self.trees.entry(candidate.name.clone()).or_default();
                let digests = &mut self.digests;
                candidate.prepare(look, settled, settling, digests, &mut restless)
            });
            match waiting {
                Ok(waiting) => prepared.push((case, waiting)),
                Err(verdict) => self.conclude(case, verdict, &mut progress),
            }
        }
        let mut due = Vec::new();
        for (case, waiting) in prepared {
            match self.hold(look, &case, &waiting, &restless) {
                None => due.push((case, waiting)),
                Some(verdict) => self.conclude(case, verdict, &mut progress),
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
    pub(super) fn survey<'a>(&mut self, look: &Look<'a>) -> Vec<Surveyed<'a>> {
        let mut sources = Sources::new(look.folder, std::mem::take(&mut self.listings));
        let mut cases = Vec::new();
        for (name, host) in &look.fleet.hosts {
            let of_host = |problem: &&Problem| problem.host.as_ref() == Some(name);
            let problems = self.settings.problems.iter().filter(of_host);
            let mut problems: Vec<_> = problems.cloned().collect();
            let Some(account) = self.registrar.accounts().get(name) else {
                // Why it has no account yet, is told.
                self.board.tell(Source::Publication(name.clone()), problems);
                continue;
            };
            let candidate = Candidate {
                name,
                host,
                gid: account.uid,
                state: self.state.host(name),
            };
            let settling = self.trees.entry(name.clone()).or_default();
            let settled = candidate.survey(look, &mut sources, settling, &mut problems);
            let case = Case {
                candidate,
                problems,
            };
            cases.push((case, settled));
        }
        self.listings = sources.into_listings();
        cases
    }

    /// Takes back what was prepared before one of its files turned out to have changed.
    fn hold(
        &mut self,
        look: &Look<'_>,
        case: &Case<'_>,
        waiting: &Waiting,
        restless: &[PathBuf],
    ) -> Option<Verdict> {
        let Case { candidate, .. } = case;
        let settling = self.trees.entry(candidate.name.clone()).or_default();
        let held = candidate.hold(look, &waiting.tree, settling, restless);
        match held {
            Some(_) => remove_unfinished(&candidate.state, candidate.name),
            None => settling.rest(),
        }
        held
    }

    /// Tells what became of a machine that gets nothing now.
    fn conclude(&self, case: Case<'_>, verdict: Verdict, progress: &mut Progress) {
        let Case {
            candidate: Candidate { name, .. },
            mut problems,
        } = case;
        match verdict {
            Verdict::Current => {}
            Verdict::Unsettled(None) => {
                progress.unsettled = true;
                return;
            }
            Verdict::Unsettled(Some(problem)) => {
                progress.unsettled = true;
                problems.push(problem);
            }
            Verdict::Faulty(found) => problems.extend(found),
            Verdict::Failed(error) => {
                self.board.activity.failed_publications.add(1);
                progress.failed = true;
                problems.push(self.state_problem(&error).of(name));
            }
        }
        self.board.tell(Source::Publication(name.clone()), problems);
    }

    /// Makes what is prepared durable, and publishes it.
    fn switch(
        &self,
        prepared: Vec<(Case<'_>, Box<Waiting>)>,
        filesystem: io::Result<fs::File>,
        progress: &mut Progress,
    ) {
        // One call for all of them: an fsync for each of thousands of files would take minutes.
        let synced = filesystem.and_then(|filesystem| Ok(rustix::fs::syncfs(filesystem)?));
        if synced.is_ok() {
            // Before machines see it: who finds the new generation mustn't be told any more why there is none.
            for (case, _) in &prepared {
                let source = Source::Publication(case.candidate.name.clone());
                self.board.tell(source, case.problems.clone());
            }
            self.board.post();
        }
        for (case, waiting) in prepared {
            let Candidate { name, state, .. } = &case.candidate;
            let (generation, mut problems) = (waiting.generation, case.problems);
            let switched = synced
                .as_ref()
                .map_err(copy_of)
                .and_then(|()| Publications::of(state).switch(waiting.publication));
            match switched {
                Ok(()) => {
                    self.board.activity.publications.add(1);
                    info!(host = %name, generation = %generation, "published");
                }
                Err(error) => {
                    self.board.activity.failed_publications.add(1);
                    remove_unfinished(state, name);
                    // For the next try.
                    made_room(&self.state, &error);
                    progress.failed = true;
                    problems.push(self.state_problem(&error).of(name));
                }
            }
            let source = Source::Publication((*name).clone());
            self.board.tell(source, problems);
        }
    }
}
