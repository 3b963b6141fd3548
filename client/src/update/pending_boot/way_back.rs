use anyhow::anyhow;
use bento_protocol::{Outcome, SystemPath};

use super::{awaiting_proof, other_fallback, reboots_into_old, unremembered};
use crate::exit::{ExitReason, Failure};
use crate::machine::{Rejection, Situation};
use crate::state::record::{Awaiting, Rebooted, Record, Unkept};
use crate::update::boot_state::BootEvent;
use crate::update::{Effects, Transaction, pending_boot, rollback};

impl<W: Effects> Transaction<'_, W> {
    /// Makes the old system the one that boots, and reboots.
    pub(super) fn go_back_by_boot(
        &mut self,
        mut awaiting: Awaiting,
        rejection: &Rejection,
    ) -> Result<(), Failure> {
        let Rejection { source, retry } = rejection;
        let before = awaiting.before.clone();
        let was_stuck = awaiting.is_stuck;
        let back = self.boot_what_was(&before);
        awaiting.failure = Some(Unkept {
            error: format!("{source:#}"),
            retry: *retry,
        });
        awaiting.boot = self.effects.situation().boot;
        let back = back
            .and_then(|()| pending_boot::set(self.effects, BootEvent::ProofFails, Some(&awaiting)));
        match back.and_then(|()| self.effects.reboot()) {
            Ok(()) => Err(reboots_into_old(source)),
            Err(failure) => {
                let error = rollback::both(source, &failure);
                self.report_stuck(&error, was_stuck);
                Err(Failure {
                    reason: ExitReason::RolledBack,
                    error,
                })
            }
        }
    }

    /// Reports that the machine can't go back yet: a shutdown may be inhibited for long.
    fn report_stuck(&mut self, error: &anyhow::Error, was_stuck: bool) {
        self.journal.error = Some(format!("{error:#}"));
        // A later generation that failed as well was reported since, and isn't tried at every start.
        let generation = self.journal.generation;
        let failed = self.effects.recorded().failed;
        let is_of_it = failed.is_none_or(|failed| failed.generation == generation);
        if is_of_it || !was_stuck {
            self.remember_failure(Outcome::RollbackFailed, false);
            self.report_outcome(Outcome::RollbackFailed);
        }
        if let Some(mut awaiting) = self.effects.recorded().awaiting.filter(|it| !it.is_stuck) {
            awaiting.is_stuck = true;
            self.or_warn(|effects| {
                pending_boot::set(effects, BootEvent::WayBackFails, Some(&awaiting))
            });
        }
    }

    /// Reports that the machine isn't on the system that awaited the boot, and whether it is on the one before.
    pub(super) fn give_up_boot(&mut self, awaiting: &Awaiting) -> Result<(), Failure> {
        let before = &awaiting.before;
        let situation = self.effects.situation();
        let Unkept { error, retry } = reason(awaiting, &situation);
        if before.is_back(&situation) || !situation.is_on(&awaiting.installed.system) {
            self.switch_secrets_quietly(before.generation);
        }
        if let Some(fallback) = &awaiting.fallback {
            let installed = self.effects.record(Record::Installed(fallback));
            installed.map_err(unremembered)?;
        }
        // Where the profile is still what it was, the boot loader may not be.
        let is_ours = situation.profile.as_ref() == Some(&awaiting.installed.system)
            || situation.profile == before.profile;
        let bootable = match is_ours {
            true => self.boot_what_was(before),
            false => Ok(()),
        };
        if let Err(failure) = bootable {
            let error = rollback::both(&anyhow!(error), &failure);
            self.journal.error = Some(format!("{error:#}"));
            self.remember_failure(Outcome::RollbackFailed, false);
            // Its journal stays: the next start tries again.
            self.finish(Outcome::RollbackFailed);
            pending_boot::set(self.effects, BootEvent::RunStarts, None).map_err(unremembered)?;
            return Err(Failure {
                reason: ExitReason::RolledBack,
                error,
            });
        }
        self.journal.error = Some(error);
        let outcome = match before.is_back(&situation) {
            true => Outcome::RolledBack,
            false => Outcome::RollbackFailed,
        };
        self.remember_failure(outcome, retry);
        self.remember_came_back(&awaiting.installed.system, true);
        self.report_outcome(outcome);
        let next = self.unproven(awaiting);
        let event = match next {
            Some(_) => BootEvent::BootFound,
            None => BootEvent::RunStarts,
        };
        pending_boot::set(self.effects, event, next.as_ref()).map_err(unremembered)
    }

    /// Remembers of a system for which the machine was rebooted whether it went back from it.
    pub(super) fn remember_came_back(&mut self, system: &SystemPath, came_back: bool) {
        let rebooted = self.effects.recorded().rebooted;
        let rebooted =
            rebooted.filter(|last| last.system == *system && last.came_back != came_back);
        if let Some(rebooted) = rebooted {
            let rebooted = Rebooted {
                came_back,
                ..rebooted
            };
            self.or_warn(|effects| effects.record(Record::Rebooted(&rebooted)));
        }
    }

    /// Record of a boot that is to be proven, too: the installed system was switched to before this one was staged, and
    /// ran with its own kernel only now that the machine went back to it.
    fn unproven(&mut self, awaiting: &Awaiting) -> Option<Awaiting> {
        let situation = self.effects.situation();
        let installed = self.effects.recorded().installed?;
        let is_first = !awaiting.is_installed()
            && situation.is_on(&installed.system)
            && situation.profile.as_ref() == Some(&installed.system)
            && !situation.reboot_required;
        let fallback = other_fallback(self.effects, &installed).filter(|_| is_first)?;
        let (boot, was_reachable) = (awaiting.boot.clone(), awaiting.was_reachable);
        Some(awaiting_proof(installed, fallback, boot, was_reachable))
    }
}

/// Reason for giving up a system: its proof failed, or it wasn't booted.
fn reason(awaiting: &Awaiting, situation: &Situation) -> Unkept {
    let running = situation.running.as_ref();
    let running = running.map_or("another system".to_owned(), ToString::to_string);
    awaiting.failure.clone().unwrap_or_else(|| Unkept {
        error: format!(
            "the machine booted {running}, not {}: the boot loader went back because that one didn't boot, or somebody \
             chose so",
            awaiting.installed.system
        ),
        retry: false,
    })
}
