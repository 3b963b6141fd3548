//! Ports of an update: its records, the server and the machine.

use std::time::Duration;

use bento_protocol::{Digest, GenerationId, Phase, Policy, Report, RunId, SystemPath};
use jiff::Timestamp;

use crate::generation::pull::PullError;
use crate::machine::rollback_timer::Decision;
use crate::machine::switch::{Action, SwitchError, Switched};
use crate::machine::{Rejection, Situation};
use crate::state::record::{Journal, Record, Recorded, ReportedState};

/// Everything that an update acts upon. A process may die at any of these calls; what was done before stays done.
pub trait Effects:
    RecordEffects + MachineEffects + ServerEffects<Staged = <Self as MachineEffects>::Source>
{
}

impl<T> Effects for T where
    T: RecordEffects + MachineEffects + ServerEffects<Staged = <T as MachineEffects>::Source>
{
}

/// Records of the runs before.
pub trait RecordEffects {
    /// All records; one that is damaged counts as none.
    fn recorded(&mut self) -> Recorded;
    /// Writes a record, whole or not at all.
    fn record(&mut self, record: Record<'_>) -> anyhow::Result<()>;
    /// Content of the newest report, delivered or not.
    fn reported(&mut self) -> Option<ReportedState>;
}

/// The appliance, and the generations that were fetched from it.
pub trait ServerEffects {
    /// A generation that could lead to another by a delta.
    type Base;
    /// A generation whose archive has come.
    type Pulled;
    /// A generation whose every byte was checked.
    type Verified;
    /// A generation that is in place.
    type Staged;

    /// Asks which generation is published, and keeps the connection.
    fn poll(&mut self) -> anyhow::Result<GenerationId>;
    /// Whether the appliance can be reached now. Ends the connection.
    fn is_reachable(&mut self) -> bool;
    /// Ends the connection.
    fn hang_up(&mut self);
    /// Keeps a report, with the output of the run, and delivers it if it can; a failure is only a warning. Whether it is
    /// kept or delivered, and not lost.
    fn report(&mut self, report: Report) -> bool;
    /// Delivers the waiting reports, if it can; a failure is only a warning. Whether none waits any more.
    fn deliver(&mut self) -> bool;

    /// The generation, if it is in place and unharmed.
    fn staged(&mut self, generation: GenerationId) -> anyhow::Result<Option<Self::Staged>>;
    /// The policy of a generation in place; its files aren't checked.
    fn policy(&mut self, generation: GenerationId) -> Option<Policy>;
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
}

/// The machine, its clock and its terminal.
pub trait MachineEffects {
    /// A generation in place, and the folder that is built from it.
    type Source: AsRef<Policy>;
    /// The right to go back, which one process has at a time.
    type RollbackLock;

    /// The time.
    fn now(&mut self) -> Timestamp;
    /// Waits for some time.
    fn wait(&mut self, time: Duration);
    /// Shows a phase that has ended.
    fn show(&mut self, phase: &Phase, result: &str);
    /// Shows a warning.
    fn warn(&mut self, warning: &str);

    /// The systems that run and boot.
    fn situation(&mut self) -> Situation;
    /// The units that are failed.
    fn failed_units(&mut self) -> Vec<String>;
    /// Whether a system is in the Nix store.
    fn is_in_store(&mut self, system: &SystemPath) -> bool;
    /// The specialisation of a system by its name; none if the system doesn't have it.
    fn specialisation(&mut self, system: &SystemPath, name: &str) -> Option<SystemPath>;
    /// Whether a system is to be booted rather than switched to, by its own settings where they can be read.
    fn takes_effect_at_boot(&mut self, system: &SystemPath) -> bool;

    /// Whether it is time for a self-update; remembers that it was made.
    fn self_update_is_due(&mut self) -> bool;
    /// The inputs of a generation; with `moves` they are updated first.
    fn inputs(&mut self, source: &mut Self::Source, moves: bool) -> anyhow::Result<Inputs>;
    /// Makes room for a build.
    fn make_room(&mut self) -> anyhow::Result<()>;
    /// Builds the system.
    fn build(&mut self, source: &Self::Source) -> anyhow::Result<SystemPath>;
    /// Refuses a system that couldn't be updated any more, or whose kernel has no room in /boot.
    fn check(&mut self, system: &SystemPath) -> Result<(), Rejection>;

    /// Arms the rollback timer, which brings the old system back if nothing confirms the new one in time.
    fn arm(&mut self, journal: &Journal) -> anyhow::Result<()>;
    /// The decision about a run that was armed; none if it wasn't.
    fn decision(&mut self, run: RunId) -> anyhow::Result<Option<Decision>>;
    /// Decides that a new system stays or goes, if nothing has decided yet, or that the old one is back. Whether it was
    /// decided here.
    fn decide(&mut self, run: RunId, decision: Decision) -> anyhow::Result<bool>;
    /// Removes all that was armed.
    fn disarm(&mut self, run: RunId);
    /// Waits for the right to go back.
    fn lock_rollback(&mut self) -> anyhow::Result<Self::RollbackLock>;

    /// Switches the stable path of secrets to those of a generation.
    fn switch_secrets(&mut self, generation: Option<GenerationId>) -> anyhow::Result<()>;
    /// Whether two generations differ in their secrets.
    fn secrets_differ(&mut self, from: Option<GenerationId>, to: GenerationId) -> bool;
    /// Restarts the units that are named for secrets in which two generations differ.
    fn restart_units(&mut self, from: Option<GenerationId>, to: GenerationId)
    -> anyhow::Result<()>;
    /// Runs a system's own switch-to-configuration.
    fn switch(
        &mut self,
        run: RunId,
        system: &SystemPath,
        action: Action,
    ) -> Result<Switched, SwitchError>;
    /// Ends a switch that goes on without its client.
    fn stop_switch(&mut self, run: RunId);
    /// Makes a system the newest version of the profile.
    fn set_profile(&mut self, system: &SystemPath) -> anyhow::Result<()>;
    /// Checks whether the machine works; after a boot with a longer grace time. Failures of optional checks come back as
    /// warnings.
    fn confirm(&mut self, was_reachable: bool, after_boot: bool) -> Result<Vec<String>, Rejection>;

    /// Whether the policy lets the machine reboot at this time of its day.
    fn may_reboot(&mut self, policy: &Policy) -> bool;
    /// Restarts the machine.
    fn reboot(&mut self) -> anyhow::Result<()>;
}

/// Inputs that a generation is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// The digest of the inputs, as far as a self-update moves them.
    pub mark: Digest,
    /// Whether a lock file pins them.
    pub are_pinned: bool,
}
