//! Stage: the publications written aside.

use super::{Outcome, Pass, Plan, Staged, Target};
use crate::daemon::publish::reconcile::{made_room, remove_unfinished};
use crate::generation::ReadError;
use crate::publication::Publications;

impl<'a> Pass<'a> {
    /// Stage: writes a publication aside.
    pub(super) fn stage(&mut self, target: &mut Target<'a>, plan: Plan) -> Result<Staged, Outcome> {
        self.require_unchanged(&plan.tree)?;
        let publications = Publications::of(&target.state);
        let prepare = || {
            let system = plan.expected_system.clone();
            publications.prepare(&plan.manifest, system, &plan.tree, self.folder, target.gid)
        };
        let prepared = prepare().or_else(|error| match error {
            ReadError::Output(full) if made_room(&self.reconciler.state, &full) => prepare(),
            error => Err(error),
        });
        match prepared {
            Ok(publication) => Ok(Staged {
                publication,
                tree: plan.tree,
            }),
            Err(error) => {
                // It mustn't take the space that the next attempt needs.
                remove_unfinished(&target.state, target.name);
                Err(self.read_failed(target.name, error))
            }
        }
    }

    /// Removes a staged publication if one of its files has changed meanwhile.
    pub(super) fn confirm(
        &mut self,
        target: &mut Target<'a>,
        staged: Staged,
    ) -> Result<Staged, Outcome> {
        self.require_unchanged(&staged.tree)
            .inspect_err(|_| remove_unfinished(&target.state, target.name))?;
        Ok(staged)
    }
}
