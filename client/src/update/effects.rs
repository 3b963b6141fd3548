use std::time::Duration;

use bento_protocol::{Digest, GenerationId, Phase, Policy, Report, RunId, SystemPath};
use jiff::Timestamp;

use crate::generation::pull::PullError;
use crate::machine::Situation;
use crate::machine::rollback_timer::Decision;
use crate::machine::switch::{Action, SwitchError, Switched};
use crate::state::record::{Journal, Record, Recorded, Told};

/// What an update acts upon. A process may die at any of these calls; what was done before stays done.
pub trait Effects {
    /// A generation that could lead to another by a delta.
    type Base;
    /// A generation whose archive has come.
    type Pulled;
    /// A generation of which every byte was checked.
    type Verified;
    /// A generation that is in place.
    type Staged;
    /// The right to go back, which one process has at a time.
    type RollbackLock;

    /// The time.
    fn now(&mut self) -> Timestamp;
    /// What the machine runs.
    fn situation(&mut self) -> Situation;
    /// The specialisation of a system by its name; none if the system doesn't have it.
    fn specialisation(&mut self, system: &SystemPath, name: &str) -> Option<SystemPath>;

    /// Whether a system is in the Nix store.
    fn is_in_store(&mut self, system: &SystemPath) -> bool;

    /// Records of the runs before; one that is damaged counts as none.
    fn recorded(&mut self) -> Recorded;
    /// Writes a record, whole or not at all.
    fn record(&mut self, record: Record<'_>) -> anyhow::Result<()>;
    /// What the newest report says, delivered or not.
    fn told(&mut self) -> Option<Told>;

    /// Asks which generation is published, and keeps the connection.
    fn poll(&mut self) -> anyhow::Result<GenerationId>;
    /// Delivers the reports that wait, if it can; a failure is only a warning. Whether none waits any more.
    fn deliver(&mut self) -> bool;
    /// The generation, if it is in place and unharmed.
    fn staged(&mut self, generation: GenerationId) -> anyhow::Result<Option<Self::Staged>>;
    /// The generation in place from which a delta would lead to this one.
    fn base(&mut self, generation: GenerationId) -> Option<Self::Base>;
    /// Fetches a generation: from a base as a delta, else as the bundle.
    fn pull(
        &mut self,
        generation: GenerationId,
        base: Option<Self::Base>,
    ) -> Result<Self::Pulled, PullError>;
    /// Checks what the archive didn't bring.
    fn verify(&mut self, pulled: Self::Pulled) -> Result<Self::Verified, PullError>;
    /// Puts a generation in place, beside those that are still needed.
    fn stage(
        &mut self,
        verified: Self::Verified,
        keep: &[GenerationId],
    ) -> anyhow::Result<Self::Staged>;
    /// Ends the connection.
    fn hang_up(&mut self);

    /// What the fleet says about the use of a generation.
    fn policy(&mut self, staged: &Self::Staged) -> Policy;
    /// The policy of a generation in place, without a look at its files.
    fn policy_of(&mut self, generation: GenerationId) -> Option<Policy>;
    /// Whether the inputs of a generation are pinned.
    fn is_pinned(&mut self, staged: &Self::Staged) -> bool;
    /// Whether it is time for a self-update; remembers that it was made.
    fn self_update_is_due(&mut self) -> bool;
    /// Moves the inputs of a generation, and gives the mark of what will be built.
    fn move_inputs(&mut self, staged: &mut Self::Staged) -> anyhow::Result<Digest>;
    /// The mark of the inputs as they are.
    fn mark(&mut self, staged: &Self::Staged) -> anyhow::Result<Digest>;
    /// Sees to it that there is room for a build.
    fn make_room(&mut self) -> anyhow::Result<()>;
    /// Builds the system.
    fn build(&mut self, staged: &Self::Staged) -> anyhow::Result<SystemPath>;
    /// Refuses a system that wouldn't carry on.
    fn guard(&mut self, system: &SystemPath) -> Result<(), Unconfirmed>;
    /// Refuses a system for whose kernel there is no room.
    fn check_boot_room(&mut self, system: &SystemPath) -> anyhow::Result<()>;

    /// Whether a system is to be booted rather than switched to, by its own settings where they can be read.
    fn takes_effect_at_boot(&mut self, system: &SystemPath) -> bool;
    /// Whether the appliance can be reached now.
    fn is_reachable(&mut self) -> bool;
    /// The units that are failed.
    fn failed_units(&mut self) -> Vec<String>;
    /// Sets what brings the old system back if nothing confirms the new one in time.
    fn arm(&mut self, journal: &Journal) -> anyhow::Result<()>;
    /// What was decided about a run that was armed; none if it wasn't.
    fn decision(&mut self, run: RunId) -> anyhow::Result<Option<Decision>>;
    /// Decides, if nobody has yet; whether it was decided here.
    fn decide(&mut self, run: RunId, decision: Decision) -> anyhow::Result<bool>;
    /// Removes all that was armed.
    fn disarm(&mut self, run: RunId);
    /// Waits for the right to go back.
    fn lock_rollback(&mut self) -> anyhow::Result<Self::RollbackLock>;
    /// Notes that the machine was brought back.
    fn note_rolled_back(&mut self, run: RunId) -> anyhow::Result<()>;

    /// Lets the stable path of secrets lead to those of a generation.
    fn switch_secrets(&mut self, generation: Option<GenerationId>) -> anyhow::Result<()>;
    /// Whether two generations differ in their secrets.
    fn secrets_differ(&mut self, from: Option<GenerationId>, to: GenerationId) -> bool;
    /// Restarts the units that are named for secrets in which two generations differ.
    fn restart_units(&mut self, from: Option<GenerationId>, to: GenerationId)
    -> anyhow::Result<()>;
    /// Lets a system's own switch-to-configuration act.
    fn switch(
        &mut self,
        run: RunId,
        system: &SystemPath,
        action: Action,
    ) -> Result<Switched, SwitchError>;
    /// Ends a switch that was left going on.
    fn stop_switch(&mut self, run: RunId);
    /// Makes a system the newest version of the profile.
    fn set_profile(&mut self, system: &SystemPath) -> anyhow::Result<()>;
    /// Finds out whether the machine works; after a boot with more patience for the network. What is only wanted comes
    /// back as warnings.
    fn confirm(
        &mut self,
        was_reachable: bool,
        after_boot: bool,
    ) -> Result<Vec<String>, Unconfirmed>;

    /// Keeps a report, and delivers it if it can; a failure is only a warning. Whether it is kept or delivered, and not
    /// lost.
    fn report(&mut self, report: Report) -> bool;
    /// Restarts the machine.
    fn reboot(&mut self) -> anyhow::Result<()>;
    /// Whether the policy lets the machine reboot at this time of its day.
    fn may_reboot(&mut self, policy: &Policy) -> bool;
    /// Lets time pass.
    fn wait(&mut self, time: Duration);

    /// The tail of the build's and the activation's output.
    fn log(&mut self) -> String;
    /// The version of Nix, if it was asked to build.
    fn nix_version(&mut self) -> Option<String>;
    /// Shows a phase that has ended.
    fn show(&mut self, phase: &Phase, note: &str);
    /// Shows a warning.
    fn warn(&mut self, warning: &str);
}

/// Why a new system isn't to be kept.
#[derive(Debug)]
pub struct Unconfirmed {
    /// What doesn't work.
    pub error: anyhow::Error,
    /// Whether it may be the network's or the appliance's fault rather than the system's.
    pub is_passing: bool,
}
