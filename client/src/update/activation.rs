use std::time::Instant;

use anyhow::anyhow;
use bento_protocol::{Outcome, SystemPath};

use super::error::UpdateError;
use super::{Effects, Transaction, rollback};
use crate::machine::Rejection;
use crate::machine::rollback_timer::Decision;
use crate::machine::switch::{Action, SwitchError, Switched};
use crate::state::record::{PhaseName, Record};

/// A fault of the new system itself.
fn own_fault(source: anyhow::Error) -> Rejection {
    Rejection {
        source,
        retry: false,
    }
}

/// Progress of an activation without a failure.
enum Progress {
    /// The new system runs.
    Runs,
    /// It can only be booted, for this reason; nothing was changed.
    NeedsBoot(SwitchError),
    /// Another switch is going on; nothing was changed.
    Busy,
}

impl<W: Effects> Transaction<'_, W> {
    /// `arm → activate → confirm → commit`, or for the next boot `commit` alone.
    pub(super) fn activate(&mut self, system: &SystemPath) -> Result<Outcome, UpdateError> {
        if self.is_in_place(system) {
            self.switch_secrets_quietly(Some(self.journal.generation));
            return Ok(Outcome::Switched);
        }
        if self.options.at_boot || self.effects.takes_effect_at_boot(system) {
            return self.stage_for_boot(system);
        }
        if self.came_back_from_boot(system) {
            self.effects.warn(
                "this system was rolled back after a boot: it is proven by the next boot before it stays",
            );
            return self.stage_for_boot(system);
        }
        let failed_before = self.effects.failed_units();
        self.arm()
            .map_err(|error| UpdateError::activation(error.into()))?;
        match self.switch_and_prove(system, &failed_before) {
            Ok(Progress::Runs) => Ok(Outcome::Switched),
            Ok(Progress::NeedsBoot(reason)) => {
                self.disarm_untouched()?;
                let why = format!("{reason}; it takes effect at the next boot");
                self.effects.warn(&why);
                self.journal.error = Some(why);
                self.stage_for_boot(system)
            }
            Ok(Progress::Busy) => {
                self.disarm_untouched()?;
                Err(UpdateError::activation(anyhow!(SwitchError::Busy).into()))
            }
            Err(rejection) => Err(self.go_back(rejection)),
        }
    }

    /// Whether there is nothing to activate: the system runs and boots, and wholly, as far as is known. Other secrets want
    /// their units restarted and the machine proven, as another system does.
    fn is_in_place(&mut self, system: &SystemPath) -> bool {
        let generations = (self.journal.before.generation, self.journal.generation);
        self.journal.unreturned.is_none()
            && self.is_wholly_on(system)
            && !self.effects.secrets_differ(generations.0, generations.1)
    }

    /// The system to switch to, or its specialisation if one of that name ran before.
    fn target(&mut self, system: &SystemPath) -> SystemPath {
        let before = self.journal.before.specialisation.as_ref();
        before
            .and_then(|before| self.effects.specialisation(system, &before.name))
            .unwrap_or_else(|| system.clone())
    }

    /// Whether the machine was rebooted for this system, and then went back from it. Switched to, it would boot unproven
    /// the next time: a machine isn't rebooted twice for a system.
    fn came_back_from_boot(&mut self, system: &SystemPath) -> bool {
        let rebooted = self.effects.recorded().rebooted;
        rebooted.is_some_and(|rebooted| rebooted.system == *system && rebooted.came_back)
    }

    fn arm(&mut self) -> anyhow::Result<()> {
        self.begin(PhaseName::Arm)?;
        let begun = Instant::now();
        self.journal.was_reachable = self.effects.is_reachable();
        if self.journal.before.running.is_none() {
            self.effects.warn(
                "nothing is known to run that the machine could go back to: this update can't be rolled back",
            );
            return Ok(());
        }
        self.journal.is_armed = true;
        self.effects.record(Record::Journal(Some(&self.journal)))?;
        self.effects.arm(&self.journal)?;
        self.ended(
            PhaseName::Arm,
            begun,
            "the old system comes back unless the new one is confirmed",
        );
        Ok(())
    }

    /// Nothing of the machine was changed but the secrets: they go back, and what was armed goes.
    fn disarm_untouched(&mut self) -> Result<(), UpdateError> {
        let before = self.journal.before.generation;
        if let Err(error) = self.effects.switch_secrets(before) {
            return Err(self.go_back(error.into()));
        }
        if self.journal.is_armed {
            let decided = self.effects.decide(self.journal.run, Decision::Committed);
            if !matches!(decided, Ok(true)) {
                return Err(self.go_back(
                    anyhow!("the time for the new system was over before it could be activated")
                        .into(),
                ));
            }
            self.journal.is_armed = false;
            self.effects.disarm(self.journal.run);
        }
        Ok(())
    }

    fn switch_and_prove(
        &mut self,
        system: &SystemPath,
        failed_before: &[String],
    ) -> Result<Progress, Rejection> {
        self.begin(PhaseName::Activate)?;
        let begun = Instant::now();
        let generation = self.journal.generation;
        let before = self.journal.before.generation;
        self.effects.switch_secrets(Some(generation))?;
        let target = self.target(system);
        let switched = match self.switch_twice(&target, failed_before) {
            Ok(switched) => switched,
            Err(reason @ (SwitchError::NeedsBoot | SwitchError::Inhibited(_))) => {
                return Ok(Progress::NeedsBoot(reason));
            }
            Err(SwitchError::Busy) => return Ok(Progress::Busy),
            Err(SwitchError::Failed(error)) => {
                self.ended(PhaseName::Activate, begun, "failed");
                return Err(own_fault(error));
            }
        };
        let restarted = self.effects.restart_units(before, generation);
        let result = match &restarted {
            Ok(()) => "the new system runs",
            Err(_) => "failed",
        };
        self.ended(PhaseName::Activate, begun, result);
        restarted.map_err(own_fault)?;
        self.confirm(&target, switched, failed_before)?;
        self.commit(system)?;
        Ok(Progress::Runs)
    }

    /// Switches; once more if units failed that didn't before: one retry cures most transient failures.
    fn switch_twice(
        &mut self,
        system: &SystemPath,
        failed_before: &[String],
    ) -> Result<Switched, SwitchError> {
        let run = self.journal.run;
        let switched = self.effects.switch(run, system, Action::Test);
        // An exit code alone doesn't prove that nothing was changed: NixOS' script ends with whatever number an error has.
        let is_untouched = self.effects.situation().running == self.journal.before.running;
        let switched = switched.map_err(|error| match is_untouched {
            true => error,
            false => SwitchError::Failed(anyhow!(error)),
        })?;
        if switched == Switched::Wholly || self.newly_failed(failed_before).is_empty() {
            return Ok(switched);
        }
        self.effects
            .warn("some units failed: the switch is tried again");
        let again = self.effects.switch(run, system, Action::Test);
        // Whatever it says: the first one has changed the machine.
        again.map_err(|error| SwitchError::Failed(anyhow!(error)))
    }

    fn newly_failed(&mut self, before: &[String]) -> Vec<String> {
        let mut failed = self.effects.failed_units();
        failed.retain(|unit| !before.contains(unit));
        failed
    }

    fn confirm(
        &mut self,
        system: &SystemPath,
        switched: Switched,
        failed_before: &[String],
    ) -> Result<(), Rejection> {
        self.begin(PhaseName::Confirm)?;
        let begun = Instant::now();
        let confirmed = self.check_new_system(system, switched, failed_before);
        let result = if confirmed.is_ok() {
            "the machine works"
        } else {
            "failed"
        };
        self.ended(PhaseName::Confirm, begun, result);
        let warnings = confirmed?;
        for warning in &warnings {
            self.effects.warn(warning);
        }
        if !warnings.is_empty() {
            self.journal.error = Some(warnings.join("; "));
        }
        Ok(())
    }

    fn check_new_system(
        &mut self,
        system: &SystemPath,
        switched: Switched,
        failed_before: &[String],
    ) -> Result<Vec<String>, Rejection> {
        let running = self.effects.situation().running;
        if running.as_ref() != Some(system) {
            let running = running.map_or("nothing known".to_owned(), |running| running.to_string());
            return Err(own_fault(anyhow!(
                "switch-to-configuration said that all is well, but {running} runs, not {system}"
            )));
        }
        let mut warnings = Vec::new();
        warnings.extend(self.left_specialisation());
        if switched == Switched::SomeUnitsFailed {
            let newly = self.newly_failed(failed_before);
            if !newly.is_empty() {
                return Err(own_fault(anyhow!(
                    "these units fail, which didn't before the update: {}",
                    newly.join(", ")
                )));
            }
            warnings.push(match failed_before {
                [] => {
                    "switch-to-configuration says that units failed; none is failed now".to_owned()
                }
                units => format!(
                    "the new system runs; these units fail as they did before: {}",
                    units.join(", ")
                ),
            });
        }
        match self.effects.confirm(self.journal.was_reachable, false) {
            Ok(confirmed) => {
                warnings.extend(confirmed);
                let newly = self.newly_failed(failed_before);
                if !newly.is_empty() {
                    warnings.push(format!(
                        "these units fail since the update: {}",
                        newly.join(", ")
                    ));
                }
            }
            // With nothing to go back to, an appliance that is away is no reason to stop halfway.
            Err(rejection) if rejection.retry && !self.journal.is_armed => {
                warnings.push(format!("{:#}", rejection.source));
            }
            Err(rejection) => return Err(rejection),
        }
        Ok(warnings)
    }

    fn left_specialisation(&mut self) -> Option<String> {
        let before = self.journal.before.specialisation.as_ref()?;
        let is_left = self.journal.built == self.effects.situation().running;
        is_left.then(|| {
            format!(
                "the machine ran the specialisation {:?}, which the new system doesn't have: it runs the system itself",
                before.name
            )
        })
    }

    /// Makes the new system the one that boots, and only then decides that it stays: until then the rollback may come.
    fn commit(&mut self, system: &SystemPath) -> Result<(), Rejection> {
        self.begin(PhaseName::Commit)?;
        let begun = Instant::now();
        self.make_bootable(system).map_err(|source| Rejection {
            retry: rollback::is_worth_retry(&source),
            source,
        })?;
        if self.journal.is_armed {
            let decided = self.effects.decide(self.journal.run, Decision::Committed);
            if !decided? {
                return Err(anyhow!("the commit came too late").into());
            }
        }
        self.ended(PhaseName::Commit, begun, "the new system is there to stay");
        Ok(())
    }

    pub(super) fn make_bootable(&mut self, system: &SystemPath) -> anyhow::Result<()> {
        rollback::boot(self.effects, self.journal.run, system, Action::Boot)
    }

    /// Brings the machine back; the failure says whether that worked.
    fn go_back(&mut self, rejection: Rejection) -> UpdateError {
        if !self.journal.is_armed {
            return UpdateError::activation(rejection);
        }
        let Rejection { source, retry } = rejection;
        match rollback::ensure(self.effects, &self.journal) {
            // Where it was decided that the time was over, what failed may have done so because the old system came.
            Ok(was_decided) => UpdateError {
                outcome: Outcome::RolledBack,
                retry: retry || !was_decided,
                source: source.context(match was_decided {
                    true => "the new system was rolled back",
                    false => "nothing had confirmed the new system in time, and it was rolled back",
                }),
            },
            Err(failure) => {
                self.returns_by_boot = failure.returns_by_boot;
                UpdateError {
                    outcome: Outcome::RollbackFailed,
                    retry,
                    source: rollback::both(&source, &failure.source),
                }
            }
        }
    }
}
