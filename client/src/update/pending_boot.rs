use anyhow::anyhow;
use bento_protocol::{GenerationId, Outcome, RunId, SystemPath};

use super::knowledge::Knowledge;
use super::{Effects, Transaction, Unconfirmed, Unsuccessful, UpdateOptions, rollback};
use crate::exit::{ExitReason, Failure};
use crate::machine::switch::Action;
use crate::machine::{BootId, Situation};
use crate::state::record::{
    Awaiting, Before, Failed, Installed, Journal, PhaseName, Rebooted, Unkept,
};

/// Before a reboot that bento asks for: what is to be proven after it. The system was proven with the kernel that runs
/// now; its own may cut the machine off.
pub(super) fn await_proof(
    effects: &mut impl Effects,
    installed: Installed,
    boot: BootId,
) -> anyhow::Result<()> {
    let Some(fallback) = other_fallback(effects, &installed) else {
        effects.warn("nothing is known that the machine could go back to after the reboot");
        return rollback::await_nothing(effects);
    };
    let was_reachable = effects.is_reachable();
    effects.hang_up();
    let awaiting = awaiting_proof(installed, fallback, boot, was_reachable);
    effects.set_awaiting(Some(&awaiting))
}

/// Where the machine could go back to from what is installed.
fn other_fallback(effects: &mut impl Effects, installed: &Installed) -> Option<Installed> {
    let fallback = effects
        .fallback()
        .filter(|it| it.system != installed.system);
    // Without its generation the machine would go back to a system without its secrets.
    fallback.filter(|it| effects.policy_of(it.generation).is_some())
}

fn awaiting_proof(
    installed: Installed,
    fallback: Installed,
    boot: BootId,
    was_reachable: bool,
) -> Awaiting {
    Awaiting {
        auto: installed.generation == fallback.generation,
        before: Before {
            running: Some(fallback.system.clone()),
            specialisation: None,
            profile: Some(fallback.system.clone()),
            generation: Some(fallback.generation),
            boot: boot.clone(),
        },
        installed,
        boot,
        was_reachable,
        failure: None,
        fallback: Some(fallback),
        is_stuck: false,
    }
}

/// Remembers what runs as something to go back to, if it is what was installed last, and with its own kernel.
pub(super) fn remember_fallback(effects: &mut impl Effects, situation: &Situation) {
    let Some(installed) = effects.installed() else {
        return;
    };
    if situation.is_on(&installed.system)
        && !situation.reboot_required
        && effects.fallback().as_ref() != Some(&installed)
    {
        let remembered = effects.set_fallback(&installed);
        if let Err(error) = remembered {
            effects.warn(&format!("{error:#}"));
        }
    }
}

/// After a boot: proves the system that awaited it, or goes back and reboots.
pub(super) fn settle(effects: &mut impl Effects) -> Result<(), Failure> {
    let Some(awaiting) = effects.awaiting() else {
        return Ok(());
    };
    let situation = effects.situation();
    if situation.boot == awaiting.boot {
        return match &awaiting.failure {
            None if is_taken_back(&awaiting, &situation) => take_back(effects, &awaiting),
            None if is_void(&awaiting, &situation) => {
                rollback::await_nothing(effects).map_err(unremembered)
            }
            None => Ok(()),
            Some(unkept) => {
                let error = anyhow!(unkept.error.clone());
                Err(match effects.reboot() {
                    // What the machine is now is of no use to anybody.
                    Ok(()) => reboots_into_old(&error),
                    Err(failure) => Failure {
                        reason: ExitReason::RolledBack,
                        error: rollback::both(&error, &failure),
                    },
                })
            }
        };
    }
    let started = effects.now();
    let journal = Journal {
        auto: awaiting.auto,
        built: Some(awaiting.installed.system.clone()),
        mark: awaiting.installed.mark,
        ..Journal::begun(
            RunId::now(),
            awaiting.installed.generation,
            started,
            awaiting.before.clone(),
        )
    };
    let mut transaction = Transaction {
        effects,
        options: UpdateOptions::default(),
        journal,
        returns_by_boot: false,
    };
    let came_up = situation.is_on(&awaiting.installed.system);
    match &awaiting.failure {
        None if came_up => transaction.prove_boot(awaiting),
        None => {
            let running = situation
                .running
                .map_or("another system".to_owned(), |it| it.to_string());
            let error = anyhow!(
                "the machine booted {running}, not {}: the boot loader went back because that one didn't boot, or \
                 somebody chose so",
                awaiting.installed.system
            );
            let is_passing = false;
            transaction.give_up_boot(&awaiting, Unconfirmed { error, is_passing })
        }
        Some(unkept) => {
            let unconfirmed = Unconfirmed {
                error: anyhow!(unkept.error.clone()),
                is_passing: unkept.is_passing,
            };
            transaction.give_up_boot(&awaiting, unconfirmed)
        }
    }
}

/// Whether the machine runs what it was switched to, didn't prove it by its boot, and can't go back from it: what is
/// published next may be the way out.
pub(super) fn is_stuck(effects: &mut impl Effects) -> bool {
    let situation = effects.situation();
    effects.awaiting().is_some_and(|awaiting| {
        awaiting.fallback.is_some()
            && awaiting.failure.is_none()
            && awaiting.boot != situation.boot
            && situation.is_on(&awaiting.installed.system)
    })
}

/// Whether a run that was to take back what awaits a boot was cut short.
fn is_taken_back(awaiting: &Awaiting, situation: &Situation) -> bool {
    situation.profile == awaiting.before.profile
        && situation.profile.as_ref() != Some(&awaiting.installed.system)
}

/// Whether somebody switched to another system, or made one the one that boots, where only the boot awaits its proof.
fn is_void(awaiting: &Awaiting, situation: &Situation) -> bool {
    let system = &awaiting.installed.system;
    let is_other = !situation.is_on(system) || situation.profile.as_ref() != Some(system);
    awaiting.fallback.is_some() && is_other
}

/// Makes what was before the one that boots, and waits for nothing.
fn take_back(effects: &mut impl Effects, awaiting: &Awaiting) -> Result<(), Failure> {
    let taken_back = boot_what_was(effects, RunId::now(), &awaiting.before)
        .and_then(|()| rollback::await_nothing(effects));
    taken_back.map_err(|error| Failure {
        reason: ExitReason::RebuildFailed,
        error: error.context("what awaits the next boot can't be taken back"),
    })
}

fn boot_what_was(effects: &mut impl Effects, run: RunId, before: &Before) -> anyhow::Result<()> {
    match &before.profile {
        Some(profile) => rollback::boot(effects, run, profile, Action::BootAgain),
        None => Ok(()),
    }
}

/// Why the run ends: the machine goes down.
fn reboots_into_old(error: &anyhow::Error) -> Failure {
    Failure {
        reason: ExitReason::RolledBack,
        error: anyhow!("the machine reboots into the old system: {error:#}"),
    }
}

/// This machine couldn't remember what came of the boot: the next start looks at it again.
fn unremembered(error: anyhow::Error) -> Failure {
    Failure {
        reason: ExitReason::RebuildFailed,
        error: error.context("what came of the boot can't be remembered"),
    }
}

impl<W: Effects> Transaction<'_, W> {
    /// Makes a system the one that boots, and nothing more: it is proven after the boot.
    pub(super) fn stage_for_boot(&mut self, system: &SystemPath) -> Result<Outcome, Unsuccessful> {
        self.journal.at_boot = true;
        self.journal.was_reachable = true;
        self.begin(PhaseName::Commit).map_err(Unsuccessful::local)?;
        let awaiting = self.new_awaiting(system);
        let staged = self
            .make_bootable(system)
            .and_then(|()| self.effects.set_awaiting(Some(&awaiting)));
        if let Err(error) = staged {
            let before = self.journal.before.clone();
            let back = self.boot_what_was(&before);
            if let Err(failure) = back.and_then(|()| rollback::await_nothing(self.effects)) {
                let error = rollback::both(&error, &failure);
                return Err(Unsuccessful::rolled_back(
                    Outcome::RollbackFailed,
                    error,
                    false,
                ));
            }
            let is_passing = rollback::may_pass(&error);
            return Err(Unsuccessful::activation(error, is_passing));
        }
        self.or_warn(|effects| effects.set_failed(None));
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
    pub(super) fn complete_staging(&mut self, system: &SystemPath, cut_short: String) {
        self.effects.stop_switch(self.journal.run);
        let awaiting = self.new_awaiting(system);
        if awaiting.boot != self.effects.situation().boot {
            // It was booted already: what remains is to prove it.
            if self.effects.awaiting().is_none() {
                self.or_warn(|effects| effects.set_awaiting(Some(&awaiting)));
            }
            return self.finish(Outcome::Staged);
        }
        match self.stage_for_boot(system) {
            Ok(outcome) => self.finish(outcome),
            Err(unsuccessful) => {
                let why = format!("{:#}; {cut_short}", unsuccessful.failure.error);
                self.journal.error = Some(why);
                self.fail(unsuccessful.outcome, true);
            }
        }
    }

    /// A system that awaits a boot makes way for another generation.
    pub(super) fn unstage(
        &mut self,
        knowledge: &mut Knowledge,
        generation: GenerationId,
    ) -> Result<(), Failure> {
        let Some(awaiting) = knowledge
            .awaiting
            .take_if(|awaiting| awaiting.installed.generation != generation)
        else {
            return Ok(());
        };
        take_back(self.effects, &awaiting)?;
        self.journal.before.profile = awaiting.before.profile;
        Ok(())
    }

    fn boot_what_was(&mut self, before: &Before) -> anyhow::Result<()> {
        boot_what_was(self.effects, self.journal.run, before)
    }

    /// The system that awaited the boot runs: does it work?
    fn prove_boot(&mut self, awaiting: Awaiting) -> Result<(), Failure> {
        self.switch_secrets_quietly(Some(awaiting.installed.generation));
        let begun = std::time::Instant::now();
        // A run that died since may have proven it, and what the machine would go back to isn't kept any more.
        let proven = match awaiting.fallback {
            None => self.effects.installed(),
            Some(_) => self.effects.fallback(),
        };
        let is_proven = proven.as_ref() == Some(&awaiting.installed);
        let confirmed = match is_proven {
            true => Ok(Vec::new()),
            false => self.effects.confirm(awaiting.was_reachable, true),
        };
        match confirmed {
            Ok(warnings) => {
                self.ended(PhaseName::Confirm, begun, "the machine works");
                if !warnings.is_empty() {
                    self.journal.error = Some(warnings.join("; "));
                }
                self.keep_booting(&awaiting.installed.system)?;
                if awaiting.fallback.is_some() {
                    self.journal.auto = awaiting.installed.auto;
                    // First, because it says that this is proven when the generation of the other one is gone.
                    let situation = self.effects.situation();
                    remember_fallback(self.effects, &situation);
                }
                let installed = self.effects.set_installed(&awaiting.installed);
                installed.map_err(unremembered)?;
                self.forget_failure_of(&awaiting);
                self.note_came_back(&awaiting.installed.system, false);
                self.report_outcome(Outcome::Switched);
                self.effects.set_awaiting(None).map_err(unremembered)
            }
            Err(unconfirmed) => {
                self.ended(PhaseName::Confirm, begun, "failed");
                self.go_back_by_boot(awaiting, &unconfirmed)
            }
        }
    }

    /// What was switched to before may have been followed by another generation, which failed.
    fn forget_failure_of(&mut self, awaiting: &Awaiting) {
        let proven = &awaiting.installed;
        let is_of_it = |failed: &Failed| {
            failed.generation == proven.generation && failed.built.as_ref() == Some(&proven.system)
        };
        if awaiting.fallback.is_none() || self.effects.failed().as_ref().is_some_and(is_of_it) {
            self.or_warn(|effects| effects.set_failed(None));
        }
    }

    /// Notes of a system for which the machine was rebooted whether it went back from it.
    fn note_came_back(&mut self, system: &SystemPath, came_back: bool) {
        let rebooted = self.effects.rebooted();
        let rebooted =
            rebooted.filter(|last| last.system == *system && last.came_back != came_back);
        if let Some(rebooted) = rebooted {
            let rebooted = Rebooted {
                came_back,
                ..rebooted
            };
            self.or_warn(|effects| effects.set_rebooted(&rebooted));
        }
    }

    /// A run that took the system back may have died halfway, before the boot or since.
    fn keep_booting(&mut self, system: &SystemPath) -> Result<(), Failure> {
        let profile = self.effects.situation().profile;
        match self.make_bootable(system) {
            Err(error) if profile.as_ref() != Some(system) => Err(Failure {
                reason: ExitReason::RebuildFailed,
                error: error.context("the system that was booted may not be booted again"),
            }),
            Err(error) => {
                self.effects.warn(&format!("{error:#}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn go_back_by_boot(
        &mut self,
        mut awaiting: Awaiting,
        unconfirmed: &Unconfirmed,
    ) -> Result<(), Failure> {
        let Unconfirmed { error, is_passing } = unconfirmed;
        let before = awaiting.before.clone();
        let was_stuck = awaiting.is_stuck;
        let back = self.boot_what_was(&before);
        awaiting.failure = Some(Unkept {
            error: format!("{error:#}"),
            is_passing: *is_passing,
        });
        awaiting.boot = self.effects.situation().boot;
        let back = back.and_then(|()| self.effects.set_awaiting(Some(&awaiting)));
        match back.and_then(|()| self.effects.reboot()) {
            Ok(()) => Err(reboots_into_old(error)),
            // Somebody may keep the machine from going down for long: the appliance should know what runs until then.
            Err(failure) => {
                let error = rollback::both(error, &failure);
                self.journal.error = Some(format!("{error:#}"));
                // A later generation that failed as well was told since, and isn't tried at every start.
                let generation = self.journal.generation;
                let failed = self.effects.failed();
                let is_of_it = failed.is_none_or(|failed| failed.generation == generation);
                if is_of_it || !was_stuck {
                    self.remember_failure(Outcome::RollbackFailed, false);
                    self.report_outcome(Outcome::RollbackFailed);
                }
                if let Some(mut awaiting) = self.effects.awaiting().filter(|it| !it.is_stuck) {
                    awaiting.is_stuck = true;
                    self.or_warn(|effects| effects.set_awaiting(Some(&awaiting)));
                }
                Err(Failure {
                    reason: ExitReason::RolledBack,
                    error,
                })
            }
        }
    }

    /// The machine isn't on the system that awaited the boot: it is told whether it is on the one before.
    fn give_up_boot(
        &mut self,
        awaiting: &Awaiting,
        Unconfirmed { error, is_passing }: Unconfirmed,
    ) -> Result<(), Failure> {
        let before = &awaiting.before;
        let situation = self.effects.situation();
        if before.is_back(&situation) || !situation.is_on(&awaiting.installed.system) {
            self.switch_secrets_quietly(before.generation);
        }
        if let Some(fallback) = &awaiting.fallback {
            let installed = self.effects.set_installed(fallback);
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
            let error = rollback::both(&error, &failure);
            self.journal.error = Some(format!("{error:#}"));
            self.remember_failure(Outcome::RollbackFailed, false);
            // Its journal stays: the next start tries again.
            self.finish(Outcome::RollbackFailed);
            self.effects.set_awaiting(None).map_err(unremembered)?;
            return Err(Failure {
                reason: ExitReason::RolledBack,
                error,
            });
        }
        self.journal.error = Some(format!("{error:#}"));
        let outcome = match before.is_back(&situation) {
            true => Outcome::RolledBack,
            false => Outcome::RollbackFailed,
        };
        self.remember_failure(outcome, is_passing);
        self.note_came_back(&awaiting.installed.system, true);
        self.report_outcome(outcome);
        let next = self.unproven(awaiting);
        let awaited = self.effects.set_awaiting(next.as_ref());
        awaited.map_err(unremembered)?;
        match next {
            Some(_) => settle(self.effects),
            None => Ok(()),
        }
    }

    /// What was switched to before this one was staged, and hasn't run with its own kernel until the machine went back
    /// to it: that boot is to be proven, too.
    fn unproven(&mut self, awaiting: &Awaiting) -> Option<Awaiting> {
        let situation = self.effects.situation();
        let installed = self.effects.installed()?;
        let is_first = awaiting.fallback.is_none()
            && situation.is_on(&installed.system)
            && situation.profile.as_ref() == Some(&installed.system)
            && !situation.reboot_required;
        let fallback = other_fallback(self.effects, &installed).filter(|_| is_first)?;
        let (boot, was_reachable) = (awaiting.boot.clone(), awaiting.was_reachable);
        Some(awaiting_proof(installed, fallback, boot, was_reachable))
    }
}
