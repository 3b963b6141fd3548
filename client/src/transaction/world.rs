use bento_protocol::{GenerationId, Phase, Report, SystemPath};

use crate::activate::Activation;
use crate::machine::Situation;
use crate::pull::PullError;
use crate::record::{Installed, Told};

/// What an update acts upon.
pub trait World {
    /// A generation that could lead to another by a delta.
    type Base;
    /// A generation whose archive has come.
    type Pulled;
    /// A generation of which every byte was checked.
    type Verified;
    /// A generation that is in place.
    type Staged;

    /// What is installed.
    fn installed(&mut self) -> Option<Installed>;
    /// What the machine runs.
    fn situation(&mut self) -> Situation;
    /// What the newest report says, delivered or not.
    fn told(&mut self) -> Option<Told>;

    /// Asks which generation is published, and keeps the connection.
    fn poll(&mut self) -> anyhow::Result<GenerationId>;
    /// Delivers the reports that wait, if it can; a failure is only a warning.
    fn deliver(&mut self);
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
    /// Puts a generation in place, beside the one that is installed.
    fn stage(
        &mut self,
        verified: Self::Verified,
        installed: Option<GenerationId>,
    ) -> anyhow::Result<Self::Staged>;
    /// Ends the connection.
    fn hang_up(&mut self);
    /// Lets the stable path of secrets lead to those of a generation.
    fn switch_secrets(&mut self, generation: Option<GenerationId>) -> anyhow::Result<()>;
    /// Builds the system.
    fn build(&mut self, staged: &Self::Staged) -> anyhow::Result<SystemPath>;
    /// Whether an activation was begun and came to no good end: the machine may run something in between.
    fn is_half_activated(&mut self) -> bool;
    /// Makes the system the one that runs.
    fn activate(&mut self, system: &SystemPath) -> anyhow::Result<Activation>;
    /// Remembers what is installed now.
    fn record(&mut self, installed: &Installed) -> anyhow::Result<()>;
    /// Delivers a report, or keeps it for the next run; a failure is only a warning.
    fn report(&mut self, report: Report);

    /// The tail of the build's and the activation's output.
    fn log(&mut self) -> String;
    /// The version of Nix, if it was asked to build.
    fn nix_version(&mut self) -> Option<String>;
    /// Shows a phase that has ended.
    fn show(&mut self, phase: &Phase, note: &str);
    /// Shows a warning.
    fn warn(&mut self, warning: &str);
}
