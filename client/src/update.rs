//! An update as a transaction: the order of its phases, and what follows when one fails.
//!
//! Nothing here touches the machine or the network except through [`Effects`]. Each phase is recorded in the journal before
//! it begins, so that after a crash at any point the next start brings the machine to the old system or to the new one,
//! and reports which.
//!
//! | phase | module |
//! |---|---|
//! | poll | this one |
//! | pull, verify, stage | `fetch` |
//! | build | this one |
//! | arm, activate, confirm, commit | `activation`; for a system that takes effect at the next boot, `pending_boot` |
//! | report | `outcome` |
//! | reboot | `reboot` |
//!
//! A failure after the activation leads to `rollback`, a crash to `recovery`.

mod activation;
mod boot_state;
mod effects;
mod error;
mod fetch;
mod knowledge;
mod outcome;
mod pending_boot;
mod reboot;
mod recovery;
mod report;
mod rollback;

use std::time::Instant;

use anyhow::anyhow;
use bento_protocol::{GenerationId, Outcome, Phase, RunId, SystemPath};

pub use boot_state::{BootAction, BootEvent, BootState};
pub use effects::{Effects, Inputs, MachineEffects, RecordEffects, ServerEffects};
pub use reboot::reboot_if_needed;
pub use recovery::{Recovered, recover, secrets_of_boot};
pub use report::report_now;
pub use rollback::{roll_back, roll_back_by_hand};

use crate::exit::{ExitReason, Failure};
use crate::server::poll;
use crate::state::record::{Before, Installed, Journal, PhaseName, Record};
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
}

#[cfg(test)]
mod tests;
