//! Actions of a run for a boot that the last update waits for, by the table of [`BootState`].

mod proof;
mod staging;
mod way_back;

use anyhow::anyhow;
use bento_protocol::{Outcome, RunId};

use super::boot_state::{BootAction, BootEvent, BootState};
use super::{Effects, Transaction, UpdateOptions, rollback};
use crate::exit::{ExitReason, Failure};
use crate::machine::switch;
use crate::machine::{BootId, Situation};
use crate::state::record::{Awaiting, Before, Installed, Journal, Record};

/// State of the boot that is awaited now.
pub(super) fn state(effects: &mut impl Effects) -> BootState {
    let awaiting = effects.recorded().awaiting;
    BootState::of(awaiting.as_ref(), &effects.situation())
}

/// Writes the record of the awaited boot after an event.
pub(super) fn set(
    effects: &mut impl Effects,
    event: BootEvent,
    awaiting: Option<&Awaiting>,
) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        let (from, to) = (
            state(effects),
            BootState::of(awaiting, &effects.situation()),
        );
        assert_eq!(from.after(event), to, "{from:?} after {event:?}");
    }
    effects.record(Record::Awaiting(awaiting))
}

/// Removes the record of an awaited boot after an event, if there is one: a run that was cut short may have left it.
pub(super) fn forget(effects: &mut impl Effects, event: BootEvent) -> anyhow::Result<()> {
    match effects.recorded().awaiting {
        Some(_) => set(effects, event, None),
        None => Ok(()),
    }
}

/// Does what an awaited boot needs at the start of a run: proves a system that was booted, or goes back and reboots.
pub(super) fn resume(effects: &mut impl Effects) -> Result<(), Failure> {
    complete(effects)?;
    let Some(awaiting) = effects.recorded().awaiting else {
        return Ok(());
    };
    match state(effects).action(BootEvent::RunStarts) {
        BootAction::Prove => transaction_of(effects, &awaiting).prove_boot(awaiting),
        BootAction::Reboot => Err(reboot_again(effects, &awaiting)),
        _ => Ok(()),
    }
}

/// Does the part of it that needs neither a proof nor a reboot: afterwards the record is true of the machine.
pub(super) fn complete(effects: &mut impl Effects) -> Result<(), Failure> {
    let Some(awaiting) = effects.recorded().awaiting else {
        return Ok(());
    };
    match state(effects).action(BootEvent::RunStarts) {
        BootAction::TakeBack => take_back(effects, BootEvent::RunStarts, &awaiting),
        BootAction::Yield => yield_to_hand(effects, &awaiting),
        BootAction::GiveUp => transaction_of(effects, &awaiting).give_up_boot(&awaiting),
        _ => Ok(()),
    }
}

/// Whether the next generation may be the way out: the machine runs what it was switched to, failed the proof by its boot,
/// and can't go back.
pub(super) fn may_be_replaced(effects: &mut impl Effects) -> bool {
    let is_installed = |awaiting: Awaiting| awaiting.is_installed();
    state(effects) == BootState::Stuck && effects.recorded().awaiting.is_some_and(is_installed)
}

/// Record of a system that was booted, and isn't installed because it isn't proven or failed its proof.
pub(super) fn not_installed(effects: &mut impl Effects) -> Option<Awaiting> {
    let is_booted = matches!(
        state(effects),
        BootState::Unproven | BootState::Stuck | BootState::Returning
    );
    let awaiting = effects.recorded().awaiting.filter(|_| is_booted);
    awaiting.filter(|awaiting| !awaiting.is_installed())
}

/// A run that is about the awaited boot.
pub(super) fn transaction_of<'w, W: Effects>(
    effects: &'w mut W,
    awaiting: &Awaiting,
) -> Transaction<'w, W> {
    let started = effects.now();
    let begun = Journal::begun(
        RunId::now(),
        awaiting.installed.generation,
        started,
        awaiting.before.clone(),
    );
    Transaction {
        effects,
        options: UpdateOptions::default(),
        journal: Journal {
            auto: awaiting.auto,
            built: Some(awaiting.installed.system.clone()),
            mark: awaiting.installed.mark,
            ..begun
        },
        returns_by_boot: false,
    }
}

/// Before a reboot that bento asks for: records that the boot is to be proven. The system was proven with the kernel that
/// runs now; its own may cut the machine off.
pub(super) fn await_proof(
    effects: &mut impl Effects,
    installed: Installed,
    boot: BootId,
) -> anyhow::Result<()> {
    let Some(fallback) = other_fallback(effects, &installed) else {
        effects.warn("nothing is known that the machine could go back to after the reboot");
        return forget(effects, BootEvent::ProofDropped);
    };
    let was_reachable = effects.is_reachable();
    let awaiting = awaiting_proof(installed, fallback, boot, was_reachable);
    set(effects, BootEvent::RebootAllowed, Some(&awaiting))
}

/// The system that the machine could go back to from the installed one.
fn other_fallback(effects: &mut impl Effects, installed: &Installed) -> Option<Installed> {
    let fallback = effects
        .recorded()
        .fallback
        .filter(|it| it.system != installed.system);
    // Without its generation the machine would go back to a system without its secrets.
    fallback.filter(|it| effects.policy(it.generation).is_some())
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
    let Some(installed) = effects.recorded().installed else {
        return;
    };
    if situation.is_on(&installed.system)
        && !situation.reboot_required
        && effects.recorded().fallback.as_ref() != Some(&installed)
    {
        let remembered = effects.record(Record::Fallback(&installed));
        if let Err(error) = remembered {
            effects.warn(&format!("{error:#}"));
        }
    }
}

/// Makes what was before the one that boots, and waits for nothing.
fn take_back(
    effects: &mut impl Effects,
    event: BootEvent,
    awaiting: &Awaiting,
) -> Result<(), Failure> {
    let taken_back = boot_what_was(effects, RunId::now(), &awaiting.before)
        .and_then(|()| forget(effects, event));
    taken_back.map_err(|error| Failure {
        reason: ExitReason::RebuildFailed,
        error: error.context("what awaits the next boot can't be taken back"),
    })
}

/// Accepts that another system was made the one that boots, or was switched to, by hand. A staged system has failed by
/// that, and isn't staged again by itself; an installed one stays installed.
fn yield_to_hand(effects: &mut impl Effects, awaiting: &Awaiting) -> Result<(), Failure> {
    if !awaiting.is_installed() {
        let situation = effects.situation();
        let installed = effects
            .recorded()
            .installed
            .map(|installed| installed.generation);
        let mut transaction = transaction_of(effects, awaiting);
        transaction.journal.before = Before::now(&situation, installed);
        let boots = situation
            .profile
            .map_or("another system".to_owned(), |profile| profile.to_string());
        transaction.journal.error = Some(format!(
            "{} was to take effect at the next boot, but somebody made {boots} the one that boots",
            awaiting.installed.system
        ));
        transaction.remember_failure(Outcome::ActivationFailed, false);
        transaction.report_outcome(Outcome::ActivationFailed);
    }
    forget(effects, BootEvent::RunStarts).map_err(unremembered)
}

/// The proof failed in this very boot: the machine is of no use until it goes down.
fn reboot_again(effects: &mut impl Effects, awaiting: &Awaiting) -> Failure {
    let failure = awaiting.failure.as_ref();
    let error = anyhow!(failure.map_or(String::new(), |failure| failure.error.clone()));
    match effects.reboot() {
        Ok(()) => reboots_into_old(&error),
        Err(failure) => Failure {
            reason: ExitReason::RolledBack,
            error: rollback::both(&error, &failure),
        },
    }
}

fn boot_what_was(effects: &mut impl Effects, run: RunId, before: &Before) -> anyhow::Result<()> {
    match &before.profile {
        Some(profile) => rollback::boot(effects, run, profile, switch::Action::BootAgain),
        None => Ok(()),
    }
}

/// Failure that ends a run because the machine reboots.
fn reboots_into_old(error: &anyhow::Error) -> Failure {
    Failure {
        reason: ExitReason::RolledBack,
        error: anyhow!("the machine reboots into the old system: {error:#}"),
    }
}

/// This machine couldn't record the end of the boot: the next run tries again.
fn unremembered(error: anyhow::Error) -> Failure {
    Failure {
        reason: ExitReason::RebuildFailed,
        error: error.context("the result of the boot can't be recorded"),
    }
}

impl<W: Effects> Transaction<'_, W> {
    fn boot_what_was(&mut self, before: &Before) -> anyhow::Result<()> {
        boot_what_was(self.effects, self.journal.run, before)
    }
}
