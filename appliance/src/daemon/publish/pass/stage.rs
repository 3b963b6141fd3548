//! Stage: the publications written aside.

use super::{HostInPass, HostOutcome, HostPlan, Pass, Staged};
use crate::daemon::publish::reconcile::{made_room, remove_unfinished};
use crate::generation::ReadError;
use crate::publication::Publications;

impl<'a> Pass<'a> {
    /// Stage: writes a publication aside.
    pub(super) fn stage(
        &mut self,
        target: &mut HostInPass<'a>,
        plan: HostPlan,
    ) -> Result<Staged, HostOutcome> {
        self.require_unchanged(&plan.tree)?;
        let publications = Publications::of(&target.state);
        let stage = || {
            let system = plan.expected_system.clone();
            publications.stage(&plan.manifest, system, &plan.tree, self.folder, target.gid)
        };
        let staged = stage().or_else(|error| match error {
            ReadError::Output(full) if made_room(&self.reconciler.state, &full) => stage(),
            error => Err(error),
        });
        let publication = staged.map_err(|error| {
            // Half a publication mustn't take the space that the next attempt needs.
            remove_unfinished(&target.state, target.name);
            self.read_failed(target.name, error)
        })?;
        Ok(Staged {
            publication,
            tree: plan.tree,
        })
    }

    /// Removes a staged publication if one of its files has changed meanwhile.
    pub(super) fn confirm(
        &mut self,
        target: &mut HostInPass<'a>,
        staged: Staged,
    ) -> Result<Staged, HostOutcome> {
        self.require_unchanged(&staged.tree)
            .inspect_err(|_| remove_unfinished(&target.state, target.name))?;
        Ok(staged)
    }
}
