//! Switch: the publications that machines see from now on.

use std::fs::File;
use std::io;

use super::{HostInPass, HostOutcome, Pass, Staged};
use crate::daemon::publish::reconcile::{made_room, remove_unfinished};
use crate::problem::Problem;
use crate::publication::Publications;

impl<'a> Pass<'a> {
    /// Switch: makes all staged publications durable at once, and then publishes each.
    pub(super) fn switch(
        &mut self,
        staged: Vec<(HostInPass<'a>, Staged)>,
        filesystem: io::Result<File>,
    ) {
        if staged.is_empty() {
            return;
        }
        // One call for all of them: an fsync for each of thousands of files takes minutes.
        let synced = filesystem.and_then(|filesystem| Ok(rustix::fs::syncfs(filesystem)?));
        let synced = synced.map_err(|error| self.write_failed(&error));
        if synced.is_ok() {
            // Before the switch: a machine that finds its new generation must no longer have a problem without one.
            for (target, _) in &staged {
                self.set_problems(target.name, target.problems.clone());
            }
            self.reconciler.problems.write();
        }
        for (target, staged) in staged {
            let generation = staged.publication.generation();
            let switched = synced.clone().and_then(|()| {
                let publications = Publications::of(&target.state);
                let switched = publications.switch(staged.publication);
                switched.map_err(|error| self.write_failed(&error))
            });
            let outcome = match switched {
                Ok(()) => HostOutcome::Published(generation),
                Err(problem) => {
                    remove_unfinished(&target.state, target.name);
                    HostOutcome::Failed(problem)
                }
            };
            self.finish(target, outcome);
        }
    }

    /// The problem with a failed write. On a full disk it makes space for the next attempt.
    fn write_failed(&self, error: &io::Error) -> Problem {
        made_room(&self.reconciler.state, error);
        self.reconciler.unwritable(error)
    }
}
