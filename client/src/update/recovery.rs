use anyhow::anyhow;
use bento_protocol::{GenerationId, Outcome, RunId};

use super::{Effects, Transaction, UpdateOptions, rollback};
use crate::machine::Situation;
use crate::machine::rollback_timer::Decision;
use crate::state::record::{Awaiting, Installed, Journal, PhaseName};

/// Completes a run that was cut short: afterwards the machine is wholly old or wholly new, nothing is armed, and a report
/// says which.
pub fn recover(effects: &mut impl Effects) -> Recovered {
    let Some(journal) = effects.recorded().journal else {
        return Recovered::default();
    };
    let mut transaction = Transaction {
        effects,
        options: UpdateOptions::default(),
        journal,
        returns_by_boot: false,
    };
    match transaction.journal.outcome {
        Some(Outcome::RollbackFailed) => transaction.roll_back_again(),
        // The result of the boot was reported since.
        Some(Outcome::Staged) if transaction.effects.recorded().awaiting.is_none() => {
            transaction.close()
        }
        Some(outcome) => {
            // The report may be on its way already: a run's second report counts for nothing.
            if transaction.journal.phase == PhaseName::Report {
                transaction.finish(outcome);
            } else {
                transaction.close();
            }
        }
        None => transaction.complete(),
    }
    let reboots = transaction.returns_by_boot;
    let unreturned = effects
        .recorded()
        .journal
        .filter(|journal| journal.outcome == Some(Outcome::RollbackFailed));
    Recovered {
        unreturned,
        reboots,
    }
}

/// Result of the recovery of a run.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The journal that says what the machine should be, if it couldn't be brought back.
    pub unreturned: Option<Journal>,
    /// Whether the machine goes down, to come back by its boot.
    pub reboots: bool,
}

/// The generation whose secrets belong to the system that was booted, whatever a run was about to do.
pub fn secrets_of_boot(
    installed: Option<&Installed>,
    awaiting: Option<&Awaiting>,
    journal: Option<&Journal>,
    situation: &Situation,
) -> Option<GenerationId> {
    let journal = journal.filter(|journal| may_boot_its_own(journal));
    let (new, before, is_given_up) = match (journal, awaiting) {
        (Some(journal), _) => (
            (journal.built.as_ref(), journal.generation),
            &journal.before,
            journal.outcome == Some(Outcome::RollbackFailed),
        ),
        (None, Some(awaiting)) => (
            (
                Some(&awaiting.installed.system),
                awaiting.installed.generation,
            ),
            &awaiting.before,
            awaiting.failure.is_some(),
        ),
        (None, None) => return installed.map(|installed| installed.generation),
    };
    let (system, generation) = new;
    // If only the secrets are new, the system doesn't show it.
    let is_back = is_given_up && before.is_back(situation);
    match system.is_some_and(|system| situation.is_on(system)) && !is_back {
        true => Some(generation),
        false => before.generation,
    }
}

/// Whether a run came so far that its system may be booted.
fn may_boot_its_own(journal: &Journal) -> bool {
    let is_over = |outcome| !matches!(outcome, Outcome::Switched | Outcome::RollbackFailed);
    journal.phase >= PhaseName::Commit && !journal.outcome.is_some_and(is_over)
}

impl<W: Effects> Transaction<'_, W> {
    /// A run died in the phase that its journal names.
    fn complete(&mut self) {
        let phase = self.journal.phase;
        self.effects.warn(&format!(
            "the last run was cut short in its phase {phase}; what it left is completed"
        ));
        let cut_short = format!(
            "the run was cut short in its phase {phase}: it was killed, or the machine stopped"
        );
        match phase {
            PhaseName::Poll | PhaseName::Pull | PhaseName::Verify | PhaseName::Stage => {
                self.give_up(Outcome::PullFailed, cut_short);
            }
            PhaseName::Build => self.give_up(Outcome::BuildFailed, cut_short),
            PhaseName::Arm | PhaseName::Activate | PhaseName::Confirm => {
                self.bring_back(phase, cut_short);
            }
            PhaseName::Commit => self.complete_commit(cut_short),
            PhaseName::Report | PhaseName::Reboot => self.close(),
        }
    }

    fn give_up(&mut self, outcome: Outcome, why: String) {
        self.journal.error = Some(why);
        self.fail(outcome, true);
    }

    fn bring_back(&mut self, phase: PhaseName, why: String) {
        // What isn't armed has nothing to go back to.
        if !self.journal.is_armed {
            return self.give_up(Outcome::ActivationFailed, why);
        }
        match rollback::ensure(self.effects, &self.journal) {
            Ok(_) if phase == PhaseName::Arm => self.give_up(Outcome::ActivationFailed, why),
            Ok(_) => self.give_up(Outcome::RolledBack, why),
            Err(failure) => {
                self.returns_by_boot = failure.returns_by_boot;
                let both = rollback::both(&anyhow!(why), &failure.source);
                self.give_up(Outcome::RollbackFailed, format!("{both:#}"));
            }
        }
    }

    /// The new system was proven to work; unless the rollback has come since, it is there to stay.
    fn complete_commit(&mut self, cut_short: String) {
        let Some(system) = self.journal.built.clone() else {
            return self.give_up(Outcome::ActivationFailed, cut_short);
        };
        if self.journal.at_boot {
            return self.complete_staging(&system, cut_short);
        }
        let decision = match self.effects.decision(self.journal.run) {
            Ok(decision) => decision,
            Err(error) => return self.bring_back(PhaseName::Commit, format!("{error:#}")),
        };
        let runs = self.effects.situation().is_on(&system);
        match decision {
            Some(Decision::Armed) if runs => {
                self.effects.stop_switch(self.journal.run);
                let bootable = self.make_bootable(&system);
                let decided = bootable
                    .and_then(|()| self.effects.decide(self.journal.run, Decision::Committed));
                match decided {
                    Ok(true) => {}
                    Ok(false) => return self.bring_back(PhaseName::Commit, cut_short),
                    Err(error) => return self.bring_back(PhaseName::Commit, format!("{error:#}")),
                }
            }
            Some(Decision::Armed | Decision::RollingBack | Decision::RolledBack) => {
                return self.bring_back(PhaseName::Commit, cut_short);
            }
            // It was decided that it stays, or there was nothing to go back to.
            Some(Decision::Committed) => {}
            None => {
                self.effects.stop_switch(self.journal.run);
                if let Err(error) = self.make_bootable(&system) {
                    return self.give_up(Outcome::ActivationFailed, format!("{error:#}"));
                }
            }
        }
        self.finish(Outcome::Switched);
    }

    fn roll_back_again(&mut self) {
        self.effects
            .warn("the last rollback failed; it is tried again");
        let why = self.journal.error.clone().unwrap_or_default();
        if let Err(failure) = rollback::ensure(self.effects, &self.journal) {
            self.returns_by_boot = failure.returns_by_boot;
            self.return_by_boot();
            return;
        }
        // Before the journal forgets the run: if this is cut short, it is done again.
        self.effects.disarm(self.journal.run);
        // A run's second report doesn't count: this one is of another run.
        self.journal.run = RunId::now();
        self.journal.started = self.effects.now();
        self.journal.phases.clear();
        self.journal.error = Some(format!("a later start brought the machine back. {why}"));
        let generation = self.journal.generation;
        let failed = self.effects.recorded().failed;
        // The cause of the failed update may be transient all the same.
        let retry = failed.is_some_and(|failed| failed.generation == generation && failed.retry);
        self.remember_failure(Outcome::RolledBack, retry);
        self.finish(Outcome::RolledBack);
    }
}
