//! The states of a boot that an update waits for, and one table of what leads from one to the next.
//!
//! A state isn't recorded. It follows from the record of the awaited boot and from the machine, so that a power cut
//! between two writes, or a switch by hand, leads to a state of this table, too.

use serde::Serialize;

use crate::machine::Situation;
use crate::state::record::Awaiting;

/// State of the boot that the last update waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BootState {
    /// No boot is awaited.
    Idle,
    /// The next boot leads to a new system.
    Staged,
    /// The new system runs, and bento has asked for the reboot into its kernel.
    Rebooting,
    /// The system before is the one that boots again, or will be: a run that took the new one back was cut short.
    Withdrawn,
    /// Another system was made the one that boots, or was switched to, by hand.
    Overridden,
    /// The new system was booted, and has to be proven.
    Unproven,
    /// The new system was booted and failed its proof, and the old one can't be made the one that boots.
    Stuck,
    /// Another system was booted than the new one.
    FellBack,
    /// The new system failed its proof, and the next boot leads to the old one.
    Returning,
    /// The machine was booted after a failed proof.
    Returned,
}

/// Event that a boot state may change with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootEvent {
    /// The machine boots the new system.
    NewBoots,
    /// The machine boots another system: by its boot loader, or by hand.
    OtherBoots,
    /// Another system becomes the one that boots, by hand.
    OtherMadeBootable,
    /// A run that takes the new system back is cut short.
    TakeBackCut,
    /// A run starts.
    RunStarts,
    /// A system was made the one that boots, to take effect then.
    UpdateStaged,
    /// The policy allows the reboot that is needed.
    RebootAllowed,
    /// The machine can't be rebooted, or nothing is known that it could go back to.
    ProofDropped,
    /// The system that runs after a boot turns out to be unproven.
    BootFound,
    /// The new system is proven.
    Proven,
    /// The new system fails its proof.
    ProofFails,
    /// The old system can't be made the one that boots.
    WayBackFails,
    /// Another generation is published.
    OtherPublished,
    /// An update was switched to and installed.
    Installed,
    /// The machine was brought back to the system before an update, also by `bento-client rollback`.
    RolledBack,
}

/// Action of the client at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootAction {
    /// Nothing: the event alone leads to the new state.
    None,
    /// Record that the boot is awaited.
    Await,
    /// Reboot the machine.
    Reboot,
    /// Find out whether the system works.
    Prove,
    /// Install the new system.
    Keep,
    /// Make the old system the one that boots, and reboot.
    GoBack,
    /// Report the failure, and try again at the next run.
    Report,
    /// Make the old system the one that boots unless another was made so by hand, and report the failure.
    GiveUp,
    /// Make the old system the one that boots.
    TakeBack,
    /// Leave the machine as it was switched by hand.
    Yield,
    /// Await no boot.
    Forget,
}

impl BootState {
    /// State of a machine with this record of an awaited boot.
    pub fn of(awaiting: Option<&Awaiting>, situation: &Situation) -> Self {
        let Some(awaiting) = awaiting else {
            return BootState::Idle;
        };
        let system = &awaiting.installed.system;
        let was_booted = awaiting.boot != situation.boot;
        let (runs, boots) = (
            situation.is_on(system),
            situation.profile.as_ref() == Some(system),
        );
        match (&awaiting.failure, was_booted) {
            (Some(_), true) => BootState::Returned,
            (Some(_), false) => BootState::Returning,
            (None, true) if !runs => BootState::FellBack,
            (None, true) if awaiting.is_stuck => BootState::Stuck,
            (None, true) => BootState::Unproven,
            (None, false) if boots && (runs || !awaiting.is_installed()) => {
                match awaiting.is_installed() {
                    true => BootState::Rebooting,
                    false => BootState::Staged,
                }
            }
            (None, false) if !boots && situation.profile == awaiting.before.profile => {
                BootState::Withdrawn
            }
            (None, false) => BootState::Overridden,
        }
    }

    /// Whether a system was booted that is still to be proven.
    pub fn awaits_proof(self) -> bool {
        matches!(self, BootState::Unproven | BootState::Stuck)
    }

    /// Whether the boot explains that the machine runs another system than the installed one: it runs the new system, or
    /// went back to the old one.
    pub fn explains(self, awaiting: &Awaiting, situation: &Situation) -> bool {
        let is_on_new = situation.is_on(&awaiting.installed.system);
        match self {
            BootState::Unproven | BootState::Stuck | BootState::Returning => is_on_new,
            BootState::FellBack | BootState::Returned => {
                is_on_new || awaiting.before.is_back(situation)
            }
            _ => false,
        }
    }

    /// Action of the client at an event, and the state that it leads to; none if nothing changes.
    pub fn on(self, event: BootEvent) -> Option<(BootAction, BootState)> {
        use BootEvent as E;
        use BootState::{
            FellBack, Idle, Overridden, Rebooting, Returned, Returning, Staged, Stuck, Unproven,
            Withdrawn,
        };
        let transition = match (self, event) {
            (Staged | Rebooting | Withdrawn | Overridden, E::NewBoots) => {
                (BootAction::None, Unproven)
            }
            (FellBack, E::NewBoots) => (BootAction::None, Unproven),
            (Returning, E::NewBoots | E::OtherBoots) => (BootAction::None, Returned),
            (Idle | Returned | FellBack, E::OtherBoots) => return None,
            (_, E::OtherBoots) => (BootAction::None, FellBack),
            (Staged | Rebooting | Withdrawn, E::OtherMadeBootable) => {
                (BootAction::None, Overridden)
            }
            (Staged, E::TakeBackCut) => (BootAction::None, Withdrawn),

            (Withdrawn, E::RunStarts) => (BootAction::TakeBack, Idle),
            (Overridden, E::RunStarts) => (BootAction::Yield, Idle),
            (Unproven | Stuck, E::RunStarts) => (BootAction::Prove, self),
            (FellBack | Returned, E::RunStarts) => (BootAction::GiveUp, Idle),
            (Returning, E::RunStarts) => (BootAction::Reboot, Returning),

            (_, E::UpdateStaged) => (BootAction::Await, Staged),
            (Staged, E::RebootAllowed) => (BootAction::Reboot, Staged),
            (Idle | Rebooting, E::RebootAllowed) => (BootAction::Reboot, Rebooting),
            (Rebooting, E::ProofDropped) => (BootAction::Forget, Idle),

            (Idle | FellBack | Returned, E::BootFound) => (BootAction::Await, Unproven),
            (Unproven | Stuck, E::Proven) => (BootAction::Keep, Idle),
            (Unproven | Stuck, E::ProofFails) => (BootAction::GoBack, Returning),
            (Unproven | Stuck, E::WayBackFails) => (BootAction::Report, Stuck),

            (Staged | Withdrawn, E::OtherPublished) => (BootAction::TakeBack, Idle),
            (Idle, E::Installed | E::RolledBack) => return None,
            (_, E::Installed | E::RolledBack) => (BootAction::Forget, Idle),
            _ => return None,
        };
        Some(transition)
    }

    /// Action of the client at an event.
    pub fn action(self, event: BootEvent) -> BootAction {
        self.on(event)
            .map_or(BootAction::None, |(action, _)| action)
    }

    /// State after an event.
    pub fn after(self, event: BootEvent) -> Self {
        self.on(event).map_or(self, |(_, next)| next)
    }
}

#[cfg(test)]
mod tests;
