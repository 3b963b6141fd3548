//! An update as a transaction: the order of its phases, and what follows when one fails.
//!
//! Nothing here touches the machine or the network except through [`Effects`]. Each phase is recorded in the journal before
//! it begins, so that after a crash at any point the next start brings the machine to the old system or to the new one,
//! and reports which.

mod activation;
mod boot_state;
mod effects;
mod error;
mod fetch;
mod knowledge;
mod pending_boot;
mod reboot;
mod recovery;
mod report;
mod rollback;

use std::time::Instant;

use anyhow::anyhow;
use bento_protocol::{Format, GenerationId, Outcome, Phase, Report, RunId, SystemPath, Systems};

pub use boot_state::{Action as BootAction, BootState, Event as BootEvent};
pub use effects::{Effects, Inputs, Machine, Records, Server};
pub use reboot::reboot_if_needed;
pub use recovery::{Recovered, recover, secrets_of_boot};
pub use report::report_now;
pub use rollback::{roll_back, roll_back_by_hand};

use crate::exit::{ExitReason, Failure};
use crate::server::poll;
use crate::state::record::{Before, Failed, Installed, Journal, PhaseName, Record, ReportedState};
use error::UpdateError;
use knowledge::{Knowledge, Standing};

/// Options of an update.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpdateOptions {
    /// Also try a generation that is known to have failed.
    pub retry: bool,
    /// Let the new system take effect at the next boot only, whatever its settings say.
    pub at_boot: bool,
}

/// Brings the machine to the generation that is published, and reports the result.
pub fn update(effects: &mut impl Effects, options: UpdateOptions) -> Result<(), Failure> {
    let Recovered {
        unreturned,
        reboots,
    } = recover(effects);
    if reboots {
        return Err(Failure {
            reason: ExitReason::RolledBack,
            error: anyhow!(rollback::REBOOTS),
        });
    }
    let stuck = match pending_boot::resume(effects) {
        Err(failure) if pending_boot::may_be_replaced(effects) => Some(failure),
        resumed => {
            resumed?;
            None
        }
    };
    let run = RunId::now();
    let started = effects.now();
    let situation = effects.situation();
    if stuck.is_none() {
        pending_boot::remember_fallback(effects, &situation);
    }
    let begun = Instant::now();
    let generation = effects.poll().map_err(|error| Failure {
        reason: poll::reason_of(&error),
        error,
    })?;
    let mut knowledge = Knowledge::of(effects);
    if let Some(failure) = stuck
        && (situation.held.is_some() || knowledge.is_installed(generation))
    {
        return Err(failure);
    }
    let before = match &unreturned {
        Some(unreturned) => unreturned.before.clone(),
        None => Before::now(&situation, knowledge.secrets()),
    };
    let mut transaction = Transaction {
        effects,
        options,
        journal: Journal {
            unreturned: unreturned.map(Box::new),
            ..Journal::begun(run, generation, started, before)
        },
        returns_by_boot: false,
    };
    let description = knowledge.describe(generation, &situation, options.retry);
    transaction.ended(
        PhaseName::Poll,
        begun,
        &format!("generation {} {description}", generation.short()),
    );
    transaction.effects.deliver();
    if situation.held.is_none() {
        transaction.unstage(&mut knowledge, generation)?;
    }
    let result = transaction.update_if_needed(&knowledge, situation.held.is_some());
    reboot::reboot_if_due(effects)?;
    result
}

/// An error of a length that a report may have, with room to spare.
fn shortened(error: &str) -> String {
    const LONGEST: usize = 16 << 10;
    let end = error.floor_char_boundary(LONGEST);
    error[..end].to_owned()
}

/// One run, from its poll on.
struct Transaction<'w, W: Effects> {
    effects: &'w mut W,
    options: UpdateOptions,
    journal: Journal,
    /// Whether a boot leads to the old system, where switching to it failed.
    returns_by_boot: bool,
}

impl<W: Effects> Transaction<'_, W> {
    /// Does what the published generation asks for.
    fn update_if_needed(&mut self, knowledge: &Knowledge, is_held: bool) -> Result<(), Failure> {
        let generation = self.journal.generation;
        match knowledge.standing(generation, is_held, self.options.retry, self.effects.now()) {
            Standing::New => self.carry_out(|this| this.update()),
            Standing::Held(last) => {
                self.effects
                    .warn("updates are held: `bento-client hold off` ends that");
                last.map_or(Ok(()), |last| {
                    self.report_standing(&Standing::Held(Some(last)))
                })
            }
            // Somebody went back by hand, or switched to another system, and wants it undone.
            Standing::Installed(installed)
                if self.options.retry && !is_held && !self.is_wholly_on(&installed.system) =>
            {
                self.carry_out(|this| this.update())
            }
            Standing::Installed(installed) => {
                self.switch_secrets_quietly(Some(generation));
                if is_held || !self.moves_by_itself(knowledge) {
                    return self.report_standing(&Standing::Installed(installed));
                }
                self.self_update(&installed)
            }
            standing => self.report_standing(&standing),
        }
    }

    fn is_wholly_on(&mut self, system: &SystemPath) -> bool {
        let situation = self.effects.situation();
        situation.is_on(system) && situation.profile.as_ref() == Some(system)
    }

    /// Whether it is time for a self-update of what is installed.
    fn moves_by_itself(&mut self, knowledge: &Knowledge) -> bool {
        let policy = self.effects.policy(self.journal.generation);
        let wanted = policy.is_some_and(|policy| policy.terms().self_update);
        let is_due = self.options.retry || knowledge.auto_is_due(self.effects.now());
        wanted && is_due && (self.options.retry || self.effects.self_update_is_due())
    }

    /// All phases of an update to a new system.
    fn update(&mut self) -> Result<Outcome, UpdateError> {
        let generation = self.journal.generation;
        let staged = self.effects.staged(generation);
        let mut staged = match staged.map_err(UpdateError::local)? {
            Some(staged) => staged,
            None => self.fetch()?,
        };
        self.effects.hang_up();
        self.begin(PhaseName::Build).map_err(UpdateError::local)?;
        let begun = Instant::now();
        // Nobody is taken back to older packages than the machine moved to by itself.
        let moves = staged.as_ref().terms().self_update;
        let inputs = self.effects.inputs(&mut staged, moves);
        self.build_and_activate(&staged, begun, inputs)
    }

    /// Updates the inputs of the installed generation; if something changed, goes through the same phases.
    fn self_update(&mut self, installed: &Installed) -> Result<(), Failure> {
        let generation = self.journal.generation;
        let nothing_moved = Standing::Installed(installed.clone());
        let mut staged = match self.effects.staged(generation) {
            Ok(Some(staged)) => staged,
            Ok(None) => return self.report_standing(&nothing_moved),
            Err(error) => {
                self.effects.warn(&format!("{error:#}"));
                return self.report_standing(&nothing_moved);
            }
        };
        self.effects.hang_up();
        let begun = Instant::now();
        let inputs = self.effects.inputs(&mut staged, true);
        if let Ok(inputs) = &inputs
            && installed.mark == Some(inputs.mark)
        {
            return self.report_standing(&nothing_moved);
        }
        self.journal.auto = true;
        self.carry_out(|this| {
            this.begin(PhaseName::Build).map_err(UpdateError::local)?;
            this.build_and_activate(&staged, begun, inputs)
        })
    }

    fn build_and_activate(
        &mut self,
        staged: &W::Staged,
        begun: Instant,
        inputs: anyhow::Result<Inputs>,
    ) -> Result<Outcome, UpdateError> {
        let inputs = inputs.map_err(|error| self.build_failed(begun, error))?;
        self.journal.mark = Some(inputs.mark);
        self.effects.make_room().map_err(UpdateError::local)?;
        // Inputs that nothing pins, or that move by themselves, may be others the next time.
        let may_move = staged.as_ref().terms().self_update || !inputs.are_pinned;
        let built = self.effects.build(staged);
        let system = built.map_err(|error| self.build_failed(begun, error))?;
        self.ended(PhaseName::Build, begun, system.as_str());
        self.journal.built = Some(system.clone());
        let checked = self.effects.check(&system);
        let activated = checked
            .map_err(UpdateError::activation)
            .and_then(|()| self.activate(&system));
        activated.map_err(|error| UpdateError {
            retry: error.retry || may_move,
            ..error
        })
    }

    fn build_failed(&mut self, begun: Instant, error: anyhow::Error) -> UpdateError {
        self.ended(PhaseName::Build, begun, "failed");
        let generation = self.journal.generation.short();
        UpdateError::build(error.context(format!("the build of generation {generation} failed")))
    }

    /// Carries an update out, and reports its outcome.
    fn carry_out(
        &mut self,
        update: impl FnOnce(&mut Self) -> Result<Outcome, UpdateError>,
    ) -> Result<(), Failure> {
        match update(self) {
            Ok(outcome) => {
                self.finish(outcome);
                Ok(())
            }
            Err(error) => {
                self.journal.error = Some(format!("{:#}", error.source));
                self.fail(error.outcome, error.retry);
                Err(error.into())
            }
        }
    }

    /// Records and reports a failure. A pull is tried at every run, and its failure is reported once.
    fn fail(&mut self, outcome: Outcome, retry: bool) {
        let is_known = outcome == Outcome::PullFailed && self.is_known_to_fail(outcome);
        self.remember_failure(outcome, retry);
        match is_known {
            true => self.close(),
            false => self.finish(outcome),
        }
    }

    /// Whether this generation failed like this before, and the newest report still says what is so.
    fn is_known_to_fail(&mut self, outcome: Outcome) -> bool {
        let generation = self.journal.generation;
        let failed_before = self
            .effects
            .recorded()
            .failed
            .is_some_and(|failed| failed.generation == generation && failed.outcome == outcome);
        let situation = self.effects.situation();
        let now = ReportedState::new(generation, &situation, situation.reboot_required);
        failed_before && self.effects.reported() == Some(now)
    }

    fn remember_failure(&mut self, outcome: Outcome, retry: bool) {
        let (generation, auto) = (self.journal.generation, self.journal.auto);
        // How often a pull failed says nothing of when a build is worth another try.
        let was_pulled = |outcome| outcome != Outcome::PullFailed;
        let same = |failed: &Failed| {
            failed.generation == generation
                && failed.auto == auto
                && was_pulled(failed.outcome) == was_pulled(outcome)
        };
        let count = self
            .effects
            .recorded()
            .failed
            .filter(same)
            .map_or(0, |failed| failed.count);
        let failed = Failed {
            generation,
            auto,
            outcome,
            built: self.journal.built.clone(),
            error: self.journal.error.clone().unwrap_or_default(),
            retry,
            count: count.saturating_add(1),
            at: self.effects.now(),
        };
        self.or_warn(|effects| effects.record(Record::Failed(Some(&failed))));
    }

    /// Records and reports the outcome of the run, and cleans up after it.
    fn finish(&mut self, outcome: Outcome) {
        self.journal.outcome = Some(outcome);
        let recorded = self.begin(PhaseName::Report);
        if let Err(error) = &recorded {
            self.effects.warn(&format!("{error:#}"));
        }
        let is_remembered = outcome != Outcome::Switched || self.remember_installed();
        let is_reported = self.report_outcome(outcome);
        // The next start records and reports what this one couldn't, and rolls back again.
        if outcome == Outcome::RollbackFailed {
            self.return_by_boot();
            return;
        }
        if is_remembered && is_reported {
            self.close();
        } else if self.journal.is_armed && recorded.is_ok() {
            // This start may go on with another run, whose journal knows nothing of what was armed for this one. Where the
            // outcome isn't recorded, the next start knows it from the decision alone.
            self.effects.disarm(self.journal.run);
        }
    }

    /// Reboots at once, whatever the policy is, if switching to the old system failed and a boot leads to it. The start
    /// after it completes the rollback.
    fn return_by_boot(&mut self) {
        if self.returns_by_boot {
            self.effects.warn(rollback::REBOOTS);
            let rebooted = self.effects.reboot();
            // Something inhibits the shutdown: the next start tries again.
            self.returns_by_boot = rebooted.is_ok();
            self.or_warn(|_| rebooted);
        }
    }

    fn remember_installed(&mut self) -> bool {
        let Some(system) = self.journal.built.clone() else {
            return true;
        };
        let installed = self.new_installed(&system);
        let result = self.effects.record(Record::Installed(&installed));
        if let Err(error) = &result {
            self.effects.warn(&format!("{error:#}"));
        }
        self.or_warn(|effects| pending_boot::set(effects, BootEvent::Installed, None));
        self.or_warn(|effects| effects.record(Record::Failed(None)));
        // Now, so that a poll with nothing new changes nothing.
        let situation = self.effects.situation();
        pending_boot::remember_fallback(self.effects, &situation);
        result.is_ok()
    }

    /// Removes the armed timer and the journal. A failed rollback of an earlier run stays recorded, unless this run reached
    /// one system or the other.
    fn close(&mut self) {
        if self.journal.is_armed {
            self.effects.disarm(self.journal.run);
        }
        let mut unreturned = self.journal.unreturned.take();
        if let Some(Outcome::Switched | Outcome::Staged | Outcome::RolledBack) =
            self.journal.outcome
        {
            while let Some(journal) = unreturned {
                self.effects.disarm(journal.run);
                unreturned = journal.unreturned;
            }
        }
        self.or_warn(|effects| effects.record(Record::Journal(unreturned.as_deref())));
    }

    /// Ends a run with nothing to do; a change of the machine since the last report is reported.
    fn report_standing(&mut self, standing: &Standing) -> Result<(), Failure> {
        self.report_change(standing, false);
        match standing.refusal() {
            Some(refusal) => Err(Failure {
                reason: ExitReason::RebuildFailed,
                error: anyhow!(refusal),
            }),
            None => Ok(()),
        }
    }

    /// Reports how the machine stands, if that differs from the last report, or `anew`. Whether there is anything to report.
    fn report_change(&mut self, standing: &Standing, anew: bool) -> bool {
        let Some((generation, mut outcome)) = standing.to_report() else {
            return false;
        };
        let mut error = standing.error().map(str::to_owned);
        let mut auto = standing.is_auto();
        if let (Outcome::Unchanged, Some(unreturned)) = (outcome, &self.journal.unreturned) {
            // It may run only half of what is installed.
            (outcome, error, auto) = (
                Outcome::RollbackFailed,
                unreturned.error.clone(),
                unreturned.auto,
            );
        }
        let situation = self.effects.situation();
        let reboot_required = situation.reboot_required || outcome == Outcome::Staged;
        let now = ReportedState::new(generation, &situation, reboot_required);
        if anew || self.effects.reported() != Some(now) {
            self.journal.generation = generation;
            self.journal.built = standing.built().cloned();
            self.journal.error = error;
            self.journal.auto = auto;
            self.report_outcome(outcome);
        }
        true
    }

    fn report_outcome(&mut self, outcome: Outcome) -> bool {
        let begun = Instant::now();
        let situation = self.effects.situation();
        let journal = &self.journal;
        // Of another system it would say that all is well.
        let specialisation = situation.specialisation.filter(|it| match &journal.built {
            Some(built) if outcome.is_success() => it.of.contains(built),
            _ => true,
        });
        let report = Report {
            format: Format,
            run: journal.run,
            generation: journal.generation,
            outcome,
            auto: journal.auto,
            started: journal.started,
            finished: self.effects.now(),
            phases: journal.phases.clone(),
            system: Systems {
                before: journal.before.running.clone(),
                built: journal.built.clone(),
                running: situation.running,
                booted: situation.booted,
            },
            reboot_required: situation.reboot_required || outcome == Outcome::Staged,
            held: situation.held,
            error: journal.error.as_deref().map(shortened),
            client: env!("CARGO_PKG_VERSION").to_owned(),
            nix: None,
            machine: situation.machine,
            specialisation: specialisation.map(|it| it.name),
            log: String::new(),
        };
        let is_reported = self.effects.report(report);
        self.ended(PhaseName::Report, begun, outcome.as_str());
        is_reported
    }

    /// Records which phase begins, before it does.
    fn begin(&mut self, phase: PhaseName) -> anyhow::Result<()> {
        self.journal.phase = phase;
        self.effects.record(Record::Journal(Some(&self.journal)))
    }

    fn ended(&mut self, name: PhaseName, begun: Instant, result: &str) {
        let phase = Phase {
            name: name.to_string(),
            seconds: begun.elapsed().as_secs_f64(),
        };
        self.effects.show(&phase, result);
        self.journal.phases.push(phase);
    }

    fn switch_secrets_quietly(&mut self, generation: Option<GenerationId>) {
        self.or_warn(|effects| effects.switch_secrets(generation));
    }

    fn or_warn(&mut self, act: impl FnOnce(&mut W) -> anyhow::Result<()>) {
        if let Err(error) = act(self.effects) {
            self.effects.warn(&format!("{error:#}"));
        }
    }

    /// The system that ran before another, and the one that booted then. If the system itself ran, those before it.
    fn previous(&mut self, system: &SystemPath) -> (Option<SystemPath>, Option<SystemPath>) {
        let before = &self.journal.before;
        if before.was_on(system) {
            let installed = self.effects.recorded().installed;
            let kept = installed.filter(|it| it.previous.as_ref() != Some(system));
            return kept.map_or((None, None), |it| (it.previous, it.previous_boots));
        }
        let boots = before.specialisation.as_ref().and_then(|specialisation| {
            let profile = before.profile.as_ref();
            let profile = profile.filter(|profile| specialisation.of.contains(profile));
            profile.or(specialisation.of.first()).cloned()
        });
        (before.running.clone(), boots)
    }

    fn new_installed(&mut self, system: &SystemPath) -> Installed {
        let (previous, previous_boots) = self.previous(system);
        Installed {
            generation: self.journal.generation,
            system: system.clone(),
            mark: self.journal.mark,
            auto: self.journal.auto,
            previous,
            previous_boots,
        }
    }
}

#[cfg(test)]
mod tests;
