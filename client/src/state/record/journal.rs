use std::fmt;

use bento_protocol::{Digest, GenerationId, Outcome, Phase, RunId, SystemPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::{BootId, Situation, Specialisation};

/// The phases of an update, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseName {
    /// Ask which generation is published.
    Poll,
    /// Fetch it.
    Pull,
    /// Check what no archive brought.
    Verify,
    /// Put it in place, beside the one that is installed.
    Stage,
    /// Build its system.
    Build,
    /// Set what brings the old system back if nothing confirms the new one.
    Arm,
    /// Switch to the new system.
    Activate,
    /// Check whether it works.
    Confirm,
    /// Make it the one that boots, and disarm.
    Commit,
    /// Report to the appliance.
    Report,
    /// Restart the machine, where that is wanted.
    Reboot,
}

impl PhaseName {
    /// Its name in the journal, on the screen and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            PhaseName::Poll => "poll",
            PhaseName::Pull => "pull",
            PhaseName::Verify => "verify",
            PhaseName::Stage => "stage",
            PhaseName::Build => "build",
            PhaseName::Arm => "arm",
            PhaseName::Activate => "activate",
            PhaseName::Confirm => "confirm",
            PhaseName::Commit => "commit",
            PhaseName::Report => "report",
            PhaseName::Reboot => "reboot",
        }
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Journal of a run: each step is on disk before it begins, so that the next start can complete a run that was cut short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// The run.
    pub run: RunId,
    /// The generation that it polled.
    pub generation: GenerationId,
    /// Whether it is a self-update.
    pub auto: bool,
    /// Its beginning, by this machine's clock.
    pub started: Timestamp,
    /// The phase that begins.
    pub phase: PhaseName,
    /// The phases that have ended.
    pub phases: Vec<Phase>,
    /// State to go back to.
    pub before: Before,
    /// The system, once it is built.
    pub built: Option<SystemPath>,
    /// Digest of the inputs that it was built with, as far as a self-update moves them.
    pub mark: Option<Digest>,
    /// Whether the new system only takes effect at the next boot.
    pub at_boot: bool,
    /// Whether something brings the old system back if nothing confirms the new one.
    pub is_armed: bool,
    /// Whether the appliance was reachable before the activation.
    pub was_reachable: bool,
    /// Its outcome, once that is decided; only the report remains then.
    pub outcome: Option<Outcome>,
    /// The fault.
    pub error: Option<String>,
    /// Journal of an earlier run whose rollback failed: until a later run succeeds, the machine isn't on `before`.
    pub unreturned: Option<Box<Journal>>,
}

/// State of a machine before an update, which a rollback restores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The system that ran.
    pub running: Option<SystemPath>,
    /// The systems that it is a specialisation of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialisation: Option<Specialisation>,
    /// The system that a boot would have led to.
    pub profile: Option<SystemPath>,
    /// The generation whose secrets were in place.
    pub generation: Option<GenerationId>,
    /// The boot during which that was so.
    pub boot: BootId,
}

impl Journal {
    /// Journal of a run that has polled, and changed nothing yet.
    pub fn begun(run: RunId, generation: GenerationId, started: Timestamp, before: Before) -> Self {
        Journal {
            run,
            generation,
            auto: false,
            started,
            phase: PhaseName::Poll,
            phases: Vec::new(),
            before,
            built: None,
            mark: None,
            at_boot: false,
            is_armed: false,
            was_reachable: false,
            outcome: None,
            error: None,
            unreturned: None,
        }
    }
}

impl Before {
    /// The present state.
    pub fn now(situation: &Situation, generation: Option<GenerationId>) -> Self {
        Before {
            running: situation.running.clone(),
            specialisation: situation.specialisation.clone(),
            profile: situation.profile.clone(),
            generation,
            boot: situation.boot.clone(),
        }
    }

    /// Whether a system is what ran, or what ran was a specialisation of it.
    pub fn was_on(&self, system: &SystemPath) -> bool {
        let specialisation = self.specialisation.as_ref();
        self.running.as_ref() == Some(system)
            || specialisation.is_some_and(|it| it.of.contains(system))
    }

    /// Whether the machine is back: a boot leads from a specialisation to its system.
    pub fn is_back(&self, situation: &Situation) -> bool {
        match &situation.running {
            Some(running) => self.was_on(running),
            None => self.running.is_none(),
        }
    }
}
