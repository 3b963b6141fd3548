use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Format, GenerationId, RunId, SystemPath, limits};

/// A report of one run: gzipped JSON in the machine's inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the document.
    pub format: Format,
    /// The run.
    pub run: RunId,
    /// The generation that was polled in that run.
    pub generation: GenerationId,
    /// The result of the run.
    pub outcome: Outcome,
    /// Whether the run was a self-update of the machine's inputs.
    pub auto: bool,
    /// By the machine's clock, which may be wrong: the appliance orders by its own sequence of receipt.
    pub started: Timestamp,
    /// By the machine's clock.
    pub finished: Timestamp,
    /// The phases with their durations, in order.
    pub phases: Vec<Phase>,
    /// The systems of the machine.
    pub system: Systems,
    /// Whether a change takes effect only at the next boot.
    pub reboot_required: bool,
    /// The end of the owner's pause of updates.
    pub held: Option<Timestamp>,
    /// The error, for a person.
    pub error: Option<String>,
    /// The version of the client.
    pub client: String,
    /// The version of Nix, if the run needed it.
    pub nix: Option<String>,
    /// A digest of /etc/machine-id, which distinguishes two machines with one key; none if the file is missing.
    pub machine: Option<Digest>,
    /// The name of the running specialisation; none if the system itself runs.
    pub specialisation: Option<String>,
    /// The tail of the build and activation output, at most [`limits::LOG_BYTES`].
    pub log: String,
}

/// One phase of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Such as `pull` or `build`.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// The systems of a machine before and after a run, as store paths; none if unknown or missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Systems {
    /// The running system at the start of the run.
    pub before: Option<SystemPath>,
    /// The system that was built from the generation, in this run or before.
    pub built: Option<SystemPath>,
    /// The running system at the end.
    pub running: Option<SystemPath>,
    /// The booted system.
    pub booted: Option<SystemPath>,
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The generation was installed already.
    Unchanged,
    /// The new system runs.
    Switched,
    /// The new system takes effect at the next boot.
    Staged,
    /// The transfer failed, or the generation doesn't match its id; nothing of it is used.
    PullFailed,
    /// The build failed.
    BuildFailed,
    /// The new system couldn't be activated, and wasn't rolled back.
    ActivationFailed,
    /// The new system was activated and failed; the old one runs again.
    RolledBack,
    /// The new system failed, and so did the rollback.
    RollbackFailed,
}

impl Outcome {
    /// Whether the machine runs the generation's system, or will run it after the next boot.
    pub fn is_success(self) -> bool {
        matches!(
            self,
            Outcome::Unchanged | Outcome::Switched | Outcome::Staged
        )
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Unchanged => "unchanged",
            Outcome::Switched => "switched",
            Outcome::Staged => "staged",
            Outcome::PullFailed => "pull_failed",
            Outcome::BuildFailed => "build_failed",
            Outcome::ActivationFailed => "activation_failed",
            Outcome::RolledBack => "rolled_back",
            Outcome::RollbackFailed => "rollback_failed",
        }
    }
}

/// Why bytes aren't a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not the JSON document of a report.
    #[error("it isn't a report: {0}")]
    Json(#[from] serde_json::Error),
    /// A field beyond its limit.
    #[error("its {0} is too long for a report")]
    TooLong(&'static str),
}

impl Report {
    /// The most bytes of `error`, and of every other short text.
    const SHORT: usize = 64 << 10;
    /// The most phases; a run has about ten.
    const PHASES: usize = 100;

    /// Parses a report from decompressed JSON, and checks the limits of its fields.
    pub fn parse(json: &[u8]) -> Result<Self, ReportError> {
        let report: Report = serde_json::from_slice(json)?;
        let short = |text: &str| text.len() <= Self::SHORT;
        let bounds = [
            ("log", report.log.len() <= limits::LOG_BYTES),
            ("error", report.error.as_deref().is_none_or(short)),
            ("client", short(&report.client)),
            ("nix", report.nix.as_deref().is_none_or(short)),
            (
                "specialisation",
                report.specialisation.as_deref().is_none_or(short),
            ),
            ("list of phases", report.phases.len() <= Self::PHASES),
            (
                "phase's name",
                report.phases.iter().all(|phase| short(&phase.name)),
            ),
        ];
        match bounds.iter().find(|(_, kept)| !kept) {
            Some((field, _)) => Err(ReportError::TooLong(field)),
            None => Ok(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            format: Format,
            run: RunId::now(),
            generation: "0".repeat(64).parse().unwrap(),
            outcome: Outcome::Switched,
            auto: false,
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            phases: vec![Phase {
                name: "build".into(),
                seconds: 1.5,
            }],
            system: Systems::default(),
            reboot_required: false,
            held: None,
            error: None,
            client: "0.1.0".into(),
            nix: None,
            machine: Some(Digest::of("machine-id")),
            specialisation: Some("console".into()),
            log: "\u{1b}[31mred\u{1b}[0m\n".into(),
        }
    }

    #[test]
    fn a_report_survives_the_wire() {
        let mut report = report();
        // An inexact parser reads this number as its neighbour.
        report.phases[0].seconds = 2.225_073_858_507_201_9e-209;
        let json = serde_json::to_vec(&report).unwrap();
        assert_eq!(Report::parse(&json).unwrap(), report);
    }

    #[test]
    fn outcomes_have_the_names_of_the_contract() {
        for outcome in [
            Outcome::Unchanged,
            Outcome::PullFailed,
            Outcome::BuildFailed,
            Outcome::RollbackFailed,
        ] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }

    #[test]
    fn a_report_is_bounded() {
        let mut long = report();
        long.log = "x".repeat(limits::LOG_BYTES + 1);
        assert!(matches!(
            Report::parse(&serde_json::to_vec(&long).unwrap()),
            Err(ReportError::TooLong("log"))
        ));
        assert!(Report::parse(b"{}").is_err());
        assert!(Report::parse(b"\xff").is_err());
    }
}
