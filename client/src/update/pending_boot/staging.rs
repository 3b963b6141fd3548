use bento_protocol::{GenerationId, Outcome, SystemPath};

use super::take_back;
use crate::exit::Failure;
use crate::machine::Rejection;
use crate::state::record::{Awaiting, PhaseName, Record};
use crate::update::boot_state::{BootAction, BootEvent};
use crate::update::error::UpdateError;
use crate::update::knowledge::Knowledge;
use crate::update::{Effects, Transaction, pending_boot, rollback};

impl<W: Effects> Transaction<'_, W> {
    /// Makes a system the one that boots, and nothing more: it is proven after the boot.
    pub(in crate::update) fn stage_for_boot(
        &mut self,
        system: &SystemPath,
    ) -> Result<Outcome, UpdateError> {
        self.journal.at_boot = true;
        self.journal.was_reachable = true;
        self.begin(PhaseName::Commit).map_err(UpdateError::local)?;
        let awaiting = self.new_awaiting(system);
        let staged = self.make_bootable(system).and_then(|()| {
            pending_boot::set(self.effects, BootEvent::UpdateStaged, Some(&awaiting))
        });
        if let Err(error) = staged {
            let before = self.journal.before.clone();
            let back = self.boot_what_was(&before);
            let forgotten =
                back.and_then(|()| pending_boot::forget(self.effects, BootEvent::RolledBack));
            if let Err(failure) = forgotten {
                let error = rollback::both(&error, &failure);
                return Err(UpdateError {
                    outcome: Outcome::RollbackFailed,
                    retry: false,
                    source: error,
                });
            }
            return Err(UpdateError::activation(Rejection {
                retry: rollback::is_worth_retry(&error),
                source: error,
            }));
        }
        self.or_warn(|effects| effects.record(Record::Failed(None)));
        Ok(Outcome::Staged)
    }

    fn new_awaiting(&mut self, system: &SystemPath) -> Awaiting {
        let now = self.effects.situation();
        // A run that was cut short may be completed after a boot. If that led to the new system, it is the one awaited.
        let has_come = now.is_on(system);
        let before = self.journal.before.clone();
        Awaiting {
            installed: self.new_installed(system),
            auto: self.journal.auto,
            boot: if has_come {
                before.boot.clone()
            } else {
                now.boot
            },
            before,
            was_reachable: self.journal.was_reachable,
            failure: None,
            fallback: None,
            is_stuck: false,
        }
    }

    /// A run died while it staged a system for the next boot.
    pub(in crate::update) fn complete_staging(&mut self, system: &SystemPath, cut_short: String) {
        self.effects.stop_switch(self.journal.run);
        let awaiting = self.new_awaiting(system);
        if awaiting.boot != self.effects.situation().boot {
            // It was booted already: what remains is to prove it.
            if self.effects.recorded().awaiting.is_none() {
                self.or_warn(|effects| {
                    pending_boot::set(effects, BootEvent::BootFound, Some(&awaiting))
                });
            }
            return self.finish(Outcome::Staged);
        }
        match self.stage_for_boot(system) {
            Ok(outcome) => self.finish(outcome),
            Err(error) => {
                self.journal.error = Some(format!("{:#}; {cut_short}", error.source));
                self.fail(error.outcome, true);
            }
        }
    }

    /// A staged system makes way for another generation.
    pub(in crate::update) fn unstage(
        &mut self,
        knowledge: &mut Knowledge,
        generation: GenerationId,
    ) -> Result<(), Failure> {
        let is_other = |awaiting: &mut Awaiting| awaiting.installed.generation != generation;
        let takes_back = pending_boot::state(self.effects).action(BootEvent::OtherPublished)
            == BootAction::TakeBack;
        let Some(awaiting) = knowledge.awaiting.take_if(is_other).filter(|_| takes_back) else {
            return Ok(());
        };
        take_back(self.effects, BootEvent::OtherPublished, &awaiting)?;
        self.journal.before.profile = awaiting.before.profile;
        Ok(())
    }
}
