//! The record of one report.

use bento_protocol::{Digest, GenerationId, Outcome, Report, SystemPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::legacy::LegacyLog;
use crate::text::sanitise::{both_ends, one_line};

/// A report in the store, without its log, which is kept beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The place in the order of receipt: counted from 1 for each machine, never used twice.
    pub sequence: u64,
    /// The time of receipt, by the appliance's clock.
    pub received: Timestamp,
    /// The content.
    pub content: Content,
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A report; its `log` is empty here.
    Report(Box<Report>),
    /// A log of a bento 2022 client.
    Legacy(LegacyLog),
}

/// The phases that a brief record keeps, each once: a machine may use any names, and new names in each run would fill a
/// database of metrics.
const PHASES: [&str; 11] = [
    "poll", "pull", "verify", "stage", "build", "arm", "activate", "confirm", "commit", "report",
    "reboot",
];

impl Record {
    /// The longest error that [`Self::brief`] keeps, in characters.
    const BRIEF_ERROR: usize = 500;
    /// The longest version that [`Self::brief`] keeps, in characters.
    const BRIEF_VERSION: usize = 50;

    /// The generation that was polled in the run.
    pub fn generation(&self) -> Option<GenerationId> {
        match &self.content {
            Content::Report(report) => Some(report.generation),
            Content::Legacy(_) => None,
        }
    }

    /// The system that the machine built from that generation.
    pub fn built(&self) -> Option<&SystemPath> {
        match &self.content {
            Content::Report(report) => report.system.built.as_ref(),
            Content::Legacy(log) => log.system.as_ref().filter(|_| log.outcome.is_success()),
        }
    }

    /// The system that ran at the end.
    pub fn running(&self) -> Option<&SystemPath> {
        match &self.content {
            Content::Report(report) => report.system.running.as_ref(),
            Content::Legacy(log) => log.system.as_ref(),
        }
    }

    /// The name of the running specialisation of the built system; none if the system itself runs, or it isn't known.
    pub fn specialisation(&self) -> Option<&str> {
        match &self.content {
            Content::Report(report) => {
                let running = report.system.running.as_ref();
                running.and(report.specialisation.as_deref())
            }
            Content::Legacy(_) => None,
        }
    }

    /// The identity by which machines with the same key differ.
    pub fn machine(&self) -> Option<Digest> {
        match &self.content {
            Content::Report(report) => report.machine,
            Content::Legacy(_) => None,
        }
    }

    /// Whether the running system is known to be the built one, or a specialisation of it.
    pub fn runs_what_it_built(&self) -> bool {
        self.running().is_some()
            && (self.running() == self.built() || self.specialisation().is_some())
    }

    /// The outcome of the run; none for a bento 2022 log, which has too few details.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.content {
            Content::Report(report) => Some(report.outcome),
            Content::Legacy(_) => None,
        }
    }

    /// The outcome of the run, in the words of the report or of the log's name.
    pub fn outcome_name(&self) -> &'static str {
        match &self.content {
            Content::Report(report) => report.outcome.as_str(),
            Content::Legacy(log) => log.outcome.as_str(),
        }
    }

    /// The same, spelled as the states of status.
    pub fn outcome_word(&self) -> String {
        self.outcome_name().replace('_', "-")
    }

    /// Whether the machine moved its inputs by itself.
    pub fn is_auto(&self) -> bool {
        match &self.content {
            Content::Report(report) => report.auto,
            Content::Legacy(log) => log.outcome == crate::legacy::LegacyOutcome::Autoupdate,
        }
    }

    /// Whether the machine runs the built system, or will after the next boot.
    pub fn is_success(&self) -> bool {
        match &self.content {
            Content::Report(report) => report.outcome.is_success(),
            Content::Legacy(log) => log.outcome.is_success(),
        }
    }

    /// Whether a change takes effect only at the next boot.
    pub fn reboot_required(&self) -> bool {
        matches!(&self.content, Content::Report(report) if report.reboot_required)
    }

    /// The end of the hold that the machine's owner set.
    pub fn held(&self) -> Option<Timestamp> {
        match &self.content {
            Content::Report(report) => report.held,
            Content::Legacy(_) => None,
        }
    }

    /// The error, as the machine wrote it: escape it before a terminal.
    pub fn error(&self) -> Option<&str> {
        match &self.content {
            Content::Report(report) => report.error.as_deref(),
            Content::Legacy(_) => None,
        }
    }

    /// One line for a log, without unescaped text of the machine.
    pub fn line(&self) -> String {
        let of = match &self.content {
            Content::Report(report) => format!(
                "run {} of generation {}",
                report.run,
                report.generation.short()
            ),
            Content::Legacy(log) => one_line(&format!("bento 2022 log {log}"), Self::BRIEF_ERROR),
        };
        let auto = if self.is_auto() { " (self-update)" } else { "" };
        let error = self
            .error()
            .map(|error| format!(": {}", one_line(error, Self::BRIEF_ERROR)));
        let outcome = self.outcome_word();
        format!(
            "report {}: {outcome}{auto}, {of}{}",
            self.sequence,
            error.unwrap_or_default()
        )
    }

    /// The record within 8 KiB, for the summary: a machine can fill a report with 8 MiB, and status reads a thousand
    /// summaries.
    #[must_use]
    pub fn brief(&self) -> Record {
        let mut brief = self.clone();
        if let Content::Report(report) = &mut brief.content {
            let mut missing: Vec<_> = PHASES.to_vec();
            report.phases.retain(|phase| {
                let place = missing.iter().position(|name| *name == phase.name);
                place.map(|place| missing.remove(place)).is_some()
            });
            report.error = report
                .error
                .as_deref()
                .map(|error| both_ends(error, Self::BRIEF_ERROR));
            let name = report.specialisation.as_deref();
            report.specialisation = name.map(|name| one_line(name, Self::BRIEF_VERSION));
            report.client = one_line(&report.client, Self::BRIEF_VERSION);
            report.nix = report
                .nix
                .as_deref()
                .map(|version| one_line(version, Self::BRIEF_VERSION));
        }
        brief
    }
}

#[cfg(test)]
mod tests {
    use bento_protocol::Outcome;

    use super::*;
    use crate::report::fixture::{failure, record, second};

    #[test]
    fn a_line_has_the_outcome_and_no_effect_on_a_terminal() {
        let mut failed = failure('b', Outcome::BuildFailed, 'a');
        failed.auto = true;
        failed.error = Some("error:\n\u{1b}[2J".into());
        let run = failed.run;
        let expected = format!(
            r"report 3: build-failed (self-update), run {run} of generation bbbbbbbb: error: \u{{1b}}[2J"
        );
        assert_eq!(record(3, failed).line(), expected);

        let name = "20220912-0000_x_rollback.log.gz";
        let log = Record {
            sequence: 1,
            received: second(0),
            content: Content::Legacy(name.parse().unwrap()),
        };
        assert_eq!(
            log.line(),
            format!("report 1: rollback, bento 2022 log {name}")
        );
    }
}
