use std::time::Duration;

use anyhow::{Context, anyhow, ensure};

use bento_protocol::{Outcome, RunId, SystemPath};

use super::boot_state::BootEvent;
use super::{Effects, Transaction, UpdateOptions, pending_boot};
use crate::exit::{ExitReason, Failure};
use crate::machine::rollback_timer::Decision;
use crate::machine::switch::{Action, SwitchError};
use crate::state::record::{Awaiting, Before, Journal, PhaseName, Record};

/// Tries to switch to a system while another switch, perhaps by hand, is under way.
const BUSY_TRIES: usize = 60;
/// The pause between two of these tries.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Failure to bring the old system back.
#[derive(Debug)]
pub(super) struct RollbackError {
    /// The fault.
    pub(super) source: anyhow::Error,
    /// Whether a boot leads to the old system, where switching to it failed.
    pub(super) returns_by_boot: bool,
}

impl From<anyhow::Error> for RollbackError {
    fn from(source: anyhow::Error) -> Self {
        RollbackError {
            source,
            returns_by_boot: false,
        }
    }
}

/// Decides that the old system comes back, unless that is decided, and brings it back. Whether it was decided here.
///
/// A rollback by another process is repeated: meanwhile the run may have switched to the new system, or made it bootable,
/// after that process.
pub(super) fn ensure(effects: &mut impl Effects, journal: &Journal) -> Result<bool, RollbackError> {
    // A state folder that can't be used, such as one over which something was mounted, is no reason to stay.
    let was_decided = match effects.decide(journal.run, Decision::RollingBack) {
        Ok(was_decided) => was_decided,
        Err(error) => {
            effects.warn(&format!("{error:#}"));
            true
        }
    };
    let lock = effects.lock_rollback();
    if let Err(error) = &lock {
        effects.warn(&format!("{error:#}"));
    }
    bring_back(effects, journal)?;
    effects.decide(journal.run, Decision::RolledBack)?;
    Ok(was_decided)
}

/// Rolls back when the armed timer elapses, unless the new system was confirmed in time. Whether it did.
pub fn roll_back(effects: &mut impl Effects, journal: &Journal) -> anyhow::Result<bool> {
    if !effects.decide(journal.run, Decision::RollingBack)? {
        return Ok(false);
    }
    match ensure(effects, journal) {
        Ok(_) => Ok(true),
        Err(RollbackError {
            source,
            returns_by_boot: true,
        }) => {
            effects.reboot()?;
            Err(source.context(REBOOTS))
        }
        Err(failure) => Err(failure.source),
    }
}

/// Message when the machine reboots for a rollback.
pub(super) const REBOOTS: &str =
    "the machine reboots into the old system, to which it can't be switched";

/// Restores what the machine was before the update, as far as that goes: what can't be restored keeps nothing else from
/// it. Doing it twice does no harm.
fn bring_back(effects: &mut impl Effects, journal: &Journal) -> Result<(), RollbackError> {
    let before = &journal.before;
    let old = before
        .running
        .as_ref()
        .context("nothing is known that the machine could go back to")?;
    effects.stop_switch(journal.run);
    let mut failures = Vec::new();
    failures.extend(effects.switch_secrets(before.generation).err());
    let situation = effects.situation();
    let touched_boot = journal.phase >= PhaseName::Commit || situation.profile != before.profile;
    let mut boots_old = before.profile.is_some();
    if let Some(profile) = before.profile.as_ref().filter(|_| touched_boot) {
        let booted = boot(effects, journal.run, profile, Action::BootAgain);
        let booted = booted.and_then(|()| pending_boot::forget(effects, BootEvent::RolledBack));
        boots_old = booted.is_ok();
        failures.extend(booted.err());
    }
    let mut switches = true;
    // A boot since then started the old system afresh; otherwise it may run only half.
    let is_fresh = situation.boot != before.boot && situation.running.as_ref() == Some(old);
    if journal.phase >= PhaseName::Activate && !is_fresh {
        let switched = switch(effects, journal.run, old, Action::Return);
        // A switch by hand mustn't be disturbed by a boot.
        let is_busy =
            |error: &anyhow::Error| matches!(error.downcast_ref(), Some(SwitchError::Busy));
        switches = switched.as_ref().err().is_none_or(is_busy);
        failures.extend(switched.err());
    }
    // That boot may have started their units with the new ones, where only secrets are new.
    if journal.phase >= PhaseName::Activate
        && let Some(generation) = before.generation
    {
        // The machine is on its old system all the same.
        if let Err(error) = effects.restart_units(Some(journal.generation), generation) {
            effects.warn(&format!("{error:#}"));
        }
    }
    let situation = effects.situation();
    // What booted since, before anything was switched to, is left as it is.
    let is_untouched = journal.phase < PhaseName::Activate;
    if !(is_untouched && before.is_back(&situation)) {
        failures.extend(check_running(effects, old).err());
    }
    if failures.is_empty() {
        return Ok(());
    }
    let failures: Vec<_> = failures.iter().map(|error| format!("{error:#}")).collect();
    Err(RollbackError {
        source: anyhow!("{}", failures.join("; ")),
        // Once: a boot that didn't bring it back wouldn't the next time.
        returns_by_boot: boots_old && !switches && situation.boot == before.boot,
    })
}

/// Makes a system the one that boots, through the profile and the boot loader.
pub(super) fn boot(
    effects: &mut impl Effects,
    run: RunId,
    system: &SystemPath,
    action: Action,
) -> anyhow::Result<()> {
    // It takes room in the store, which a machine that only goes back mustn't need.
    if effects.situation().profile.as_ref() != Some(system) {
        effects.set_profile(system)?;
    }
    switch(effects, run, system, action)
}

/// Whether what kept a system from being made bootable may pass: the disk or another switch, and not its boot loader.
pub(super) fn is_worth_retry(error: &anyhow::Error) -> bool {
    !matches!(error.downcast_ref(), Some(SwitchError::Failed(_)))
}

fn switch(
    effects: &mut impl Effects,
    run: RunId,
    system: &SystemPath,
    action: Action,
) -> anyhow::Result<()> {
    let mut switched = effects.switch(run, system, action);
    for _ in 0..BUSY_TRIES {
        if !matches!(switched, Err(SwitchError::Busy)) {
            break;
        }
        effects.wait(BUSY_PAUSE);
        switched = effects.switch(run, system, action);
    }
    // Units that fail are no reason to stop halfway.
    switched
        .map(drop)
        .map_err(|error| anyhow!(error).context(format!("can't {} {system}", action.meaning())))
}

fn check_running(effects: &mut impl Effects, system: &SystemPath) -> anyhow::Result<()> {
    let running = effects.situation().running;
    ensure!(
        running.as_ref() == Some(system),
        "{} runs after the rollback, not {system}",
        running.map_or("nothing known".to_owned(), |running| running.to_string())
    );
    Ok(())
}

/// Combines the reason for giving up the new system and the failure to bring back the old one.
pub(super) fn both(error: &anyhow::Error, failure: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "THE ROLLBACK FAILED, and this machine needs attention: {failure:#}. It is tried again at the next start. The \
         update was given up because: {error:#}"
    )
}

/// Goes back by hand to what ran before the last update, reports that, and gives the system that runs then. Before a
/// booted system is proven, this is the one that ran before the boot.
pub fn roll_back_by_hand(effects: &mut impl Effects) -> Result<SystemPath, Failure> {
    super::recover(effects);
    pending_boot::complete(effects)?;
    match pending_boot::not_installed(effects) {
        Some(awaiting) => give_up_by_hand(effects, &awaiting),
        None => leave_by_hand(effects),
    }
}

/// Reason in the report of a rollback by hand.
const BY_HAND: &str = "somebody went back by hand, with `bento-client rollback`";

fn failed(error: anyhow::Error) -> Failure {
    Failure {
        reason: ExitReason::RolledBack,
        error,
    }
}

/// Rolls back from the installed system. It stays installed, and the machine has drifted from it.
fn leave_by_hand(effects: &mut impl Effects) -> Result<SystemPath, Failure> {
    let nothing = || failed(anyhow!("nothing is known that ran before the last update"));
    let installed = effects.recorded().installed.ok_or_else(nothing)?;
    let previous = installed.previous.clone().ok_or_else(nothing)?;
    let boots = installed.previous_boots.clone().unwrap_or(previous.clone());
    ensure_in_store(effects, [&previous, &boots])?;
    let situation = effects.situation();
    let before = Before::now(&situation, Some(installed.generation));
    let (run, started) = (RunId::now(), effects.now());
    let go_back = |effects: &mut _| {
        switch(effects, run, &previous, Action::Test)?;
        check_running(effects, &previous)?;
        boot(effects, run, &boots, Action::BootAgain)?;
        pending_boot::forget(effects, BootEvent::RolledBack)
    };
    go_back(effects).map_err(failed)?;
    let mut journal = Journal::begun(run, installed.generation, started, before);
    journal.built = Some(installed.system);
    journal.error = Some(BY_HAND.to_owned());
    let mut transaction = Transaction {
        effects,
        options: UpdateOptions::default(),
        journal,
        returns_by_boot: false,
    };
    transaction.report_outcome(Outcome::Unchanged);
    Ok(previous)
}

/// Gives up a system that was booted and isn't installed yet, with its secrets.
fn give_up_by_hand(effects: &mut impl Effects, awaiting: &Awaiting) -> Result<SystemPath, Failure> {
    let before = &awaiting.before;
    let nothing = || failed(anyhow!("nothing is known that ran before the last update"));
    let previous = before.running.clone().ok_or_else(nothing)?;
    let boots = before.profile.clone().unwrap_or(previous.clone());
    ensure_in_store(effects, [&previous, &boots])?;
    let mut transaction = pending_boot::transaction_of(effects, awaiting);
    transaction.journal.error = Some(BY_HAND.to_owned());
    // If this is cut short, the next start completes it as a rollback that failed.
    transaction.journal.outcome = Some(Outcome::RollbackFailed);
    transaction.begin(PhaseName::Commit).map_err(failed)?;
    if let Err(failure) = ensure(transaction.effects, &transaction.journal) {
        transaction.or_warn(|effects| effects.record(Record::Journal(None)));
        return Err(failed(failure.source));
    }
    transaction.remember_failure(Outcome::RolledBack, false);
    transaction.finish(Outcome::RolledBack);
    Ok(previous)
}

fn ensure_in_store(effects: &mut impl Effects, systems: [&SystemPath; 2]) -> Result<(), Failure> {
    for system in systems {
        if !effects.is_in_store(system) {
            return Err(failed(anyhow!(
                "{system}, which ran before the last update, is gone from the Nix store: garbage was collected since. \
                 Publish the configuration that you want back, and the machine builds it again; what can still be \
                 booted, `nix-env --list-generations -p /nix/var/nix/profiles/system` lists"
            )));
        }
    }
    Ok(())
}
