use std::time::Duration;

use crate::exit::{ExitReason, Failure};
use crate::state::record::{Rebooted, Record};

use super::boot_state::{BootAction, BootEvent, BootState};
use super::{Effects, pending_boot};

/// Longest wait of a reboot for the delivery of the report.
const DELIVERY: Duration = Duration::from_secs(600);
/// Pause between two tries to deliver it.
const PAUSE: Duration = Duration::from_secs(20);

/// Restarts the machine where its newest report says that this is wanted and the policy allows it now. What a run left
/// undone is completed first.
pub fn reboot_if_needed(effects: &mut impl Effects) -> Result<(), Failure> {
    super::recover(effects);
    reboot_if_due(effects)
}

/// At the end of a run: restarts the machine if that is wanted now.
pub(super) fn reboot_if_due(effects: &mut impl Effects) -> Result<(), Failure> {
    let state = pending_boot::state(effects);
    // What is on its way back has asked for its reboot; what was booted is to be proven first.
    let Some((BootAction::Reboot, next)) = state.on(BootEvent::RebootAllowed) else {
        return Ok(());
    };
    let situation = effects.situation();
    let is_staged = next == BootState::Staged;
    let wanted = situation.reboot_required || is_staged;
    if !wanted || situation.held.is_some() || effects.recorded().journal.is_some() {
        return Ok(());
    }
    let installed = match is_staged {
        true => effects
            .recorded()
            .awaiting
            .map(|awaiting| awaiting.installed),
        // A proof that awaits a reboot which never came is recorded anew.
        false => effects.recorded().installed,
    };
    let Some(installed) = installed else {
        return Ok(());
    };
    let policy = effects.policy(installed.generation);
    if !policy.is_some_and(|policy| effects.may_reboot(&policy)) {
        return Ok(());
    }
    let rebooted = Rebooted {
        system: installed.system.clone(),
        boot: situation.boot.clone(),
        came_back: false,
    };
    if let Some(last) = effects.recorded().rebooted
        && last.system == rebooted.system
        && last.boot != rebooted.boot
    {
        // A machine that comes up as it went down would do so for ever.
        effects.warn("the machine was rebooted for this system and still wants a reboot: it isn't rebooted again");
        return Ok(());
    }
    await_delivery(effects);
    // A system that was switched to by hand, or made bootable by hand, is proven by nobody.
    let is_ours =
        situation.is_on(&installed.system) && situation.profile.as_ref() == Some(&installed.system);
    let awaited = match (is_staged, is_ours) {
        (true, _) => Ok(()),
        (false, true) => pending_boot::await_proof(effects, installed, situation.boot),
        (false, false) => pending_boot::forget(effects, BootEvent::ProofDropped),
    };
    let reboot = awaited
        .and_then(|()| effects.record(Record::Rebooted(&rebooted)))
        .and_then(|()| effects.reboot());
    reboot.map_err(|error| {
        // A boot by hand isn't proven.
        if !is_staged && let Err(error) = pending_boot::forget(effects, BootEvent::ProofDropped) {
            effects.warn(&format!("{error:#}"));
        }
        Failure {
            reason: ExitReason::RebuildFailed,
            error: error.context("the machine can't be rebooted"),
        }
    })
}

fn await_delivery(effects: &mut impl Effects) {
    let mut waited = Duration::ZERO;
    while !effects.deliver() && waited < DELIVERY {
        effects.wait(PAUSE);
        waited += PAUSE;
    }
    effects.hang_up();
}
