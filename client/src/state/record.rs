//! Records that the client keeps between runs, a file for each.

mod attempt;
mod journal;

use std::path::Path;

use anyhow::Context;
use bento_protocol::{Digest, GenerationId, Outcome, Report, RunId, SystemPath};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use attempt::Failed;
pub use journal::{Before, Journal, PhaseName};

use crate::machine::{BootId, Situation};
use crate::state::atomic_file;

/// The generation that was installed last, and proven to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The generation.
    pub generation: GenerationId,
    /// The system that was built from it.
    pub system: SystemPath,
    /// Digest of the inputs that it was built with, as far as a self-update moves them.
    pub mark: Option<Digest>,
    /// Whether it comes of a self-update.
    #[serde(default)]
    pub auto: bool,
    /// The system that ran before: a rollback by hand leads there.
    pub previous: Option<SystemPath>,
    /// The system that boots then, if the one before is a specialisation of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_boots: Option<SystemPath>,
}

/// A system that takes effect at the next boot, and is to be proven then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaiting {
    /// The generation to install; `previous` is none if nothing ran.
    pub installed: Installed,
    /// Whether it comes of a self-update.
    pub auto: bool,
    /// State to go back to.
    pub before: Before,
    /// The boot during which this was written: another one shows that the machine was booted since.
    pub boot: BootId,
    /// Whether the appliance was reachable when it was staged.
    pub was_reachable: bool,
    /// Result of a failed proof: the next boot goes back.
    pub failure: Option<Unkept>,
    /// The generation to install if the proof fails, where the system was switched to before and only its boot awaits a
    /// proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Installed>,
    /// Whether the way back from it failed, and that was reported.
    #[serde(default)]
    pub is_stuck: bool,
}

/// Reason not to keep a system that was booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unkept {
    /// The fault.
    pub error: String,
    /// Whether it may be the network's or the appliance's fault rather than the system's.
    #[serde(rename = "is_passing")]
    pub retry: bool,
}

/// State of the machine by its last report: as long as it is the same, there is nothing to report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedState {
    generation: GenerationId,
    running: Option<SystemPath>,
    booted: Option<SystemPath>,
    reboot_required: bool,
    held: Option<Timestamp>,
}

/// The last delivered report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    #[serde(flatten)]
    state: ReportedState,
    /// The run of the report.
    #[serde(default)]
    run: Option<RunId>,
    /// Address of the server that has it.
    #[serde(default)]
    server: Option<String>,
    /// Time of the delivery, by this machine's clock.
    at: Timestamp,
}

/// A run that came to its end, as `bento-client status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    /// Its id.
    pub run: RunId,
    /// Its generation.
    pub generation: GenerationId,
    /// Its outcome.
    pub outcome: Outcome,
    /// Whether it was a self-update.
    pub auto: bool,
    /// Its beginning, by this machine's clock.
    pub started: Timestamp,
    /// Its end, by this machine's clock.
    pub finished: Timestamp,
    /// The failure.
    pub error: Option<String>,
}

/// The last reboot that bento asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebooted {
    /// The system for which it was.
    pub system: SystemPath,
    /// The boot during which it was asked for.
    pub boot: BootId,
    /// Whether the machine went back from that system, and hasn't proven it by a boot since.
    #[serde(default)]
    pub came_back: bool,
}

/// Records of the runs before.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The generation that is installed.
    pub installed: Option<Installed>,
    /// The last installed generation that ran with its own kernel.
    pub fallback: Option<Installed>,
    /// The system that awaits a boot.
    pub awaiting: Option<Awaiting>,
    /// The last failure.
    pub failed: Option<Failed>,
    /// A run that didn't come to its end.
    pub journal: Option<Journal>,
    /// The last reboot that was asked for.
    pub rebooted: Option<Rebooted>,
}

/// A record as it is from now on; none where there is nothing to record any more.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// The generation that is installed. No other stays in place, except that of the fallback while a reboot is needed.
    Installed(&'a Installed),
    /// The last installed generation that ran with its own kernel.
    Fallback(&'a Installed),
    /// The system that awaits a boot.
    Awaiting(Option<&'a Awaiting>),
    /// The last failure.
    Failed(Option<&'a Failed>),
    /// The next step of a run.
    Journal(Option<&'a Journal>),
    /// The reboot that is about to be asked for.
    Rebooted(&'a Rebooted),
}

impl Awaiting {
    /// Whether the system was switched to and installed before: only its boot is still to be proven.
    pub fn is_installed(&self) -> bool {
        self.fallback.is_some()
    }
}

impl ReportedState {
    /// State in a report about this generation in this situation.
    pub fn new(generation: GenerationId, situation: &Situation, reboot_required: bool) -> Self {
        ReportedState {
            generation,
            running: situation.running.clone(),
            booted: situation.booted.clone(),
            reboot_required,
            held: situation.held,
        }
    }

    /// State in a report.
    pub fn of(report: &Report) -> Self {
        ReportedState {
            generation: report.generation,
            running: report.system.running.clone(),
            booted: report.system.booted.clone(),
            reboot_required: report.reboot_required,
            held: report.held,
        }
    }
}

impl Delivered {
    /// Time after which the same state is reported again: an appliance that was restored from a copy, or at which this
    /// machine was enrolled anew, doesn't have the last report.
    const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

    /// Record after the delivery of one more report. A server counts the first report of a run, so that a second one, by
    /// the start that completes the run, changes nothing.
    pub fn after(last: Option<Self>, report: &Report, server: &str, now: Timestamp) -> Self {
        let knows = |last: &Delivered| last.run == Some(report.run) && last.is_of(server);
        last.filter(knows).unwrap_or_else(|| Delivered {
            state: ReportedState::of(report),
            run: Some(report.run),
            server: Some(server.to_owned()),
            at: now,
        })
    }

    /// State that a server still has. A delivery in the future counts as one long ago: the clock was wrong.
    pub fn remembered(self, server: &str, now: Timestamp) -> Option<ReportedState> {
        let is_recent = now.duration_since(self.at).abs() < Self::REMEMBERED;
        (is_recent && self.is_of(server)).then_some(self.state)
    }

    fn is_of(&self, server: &str) -> bool {
        self.server.as_deref() == Some(server)
    }
}

impl PastRun {
    /// Number of runs that are kept.
    pub const KEPT: usize = 20;

    /// The run of a report.
    pub fn by(report: &Report) -> Self {
        PastRun {
            run: report.run,
            generation: report.generation,
            outcome: report.outcome,
            auto: report.auto,
            started: report.started,
            finished: report.finished,
            error: report.error.clone(),
        }
    }
}

/// Reads a record; none if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let Some(json) = atomic_file::read_if_there(path)? else {
        return Ok(None);
    };
    let record = serde_json::from_slice(&json)
        .with_context(|| format!("{} isn't what the client wrote there", path.display()))?;
    Ok(Some(record))
}

/// Writes a record, whole or not at all.
pub(crate) fn write(path: &Path, record: &impl Serialize) -> anyhow::Result<()> {
    let mut json = serde_json::to_vec(record).context("a record can't be written as JSON")?;
    json.push(b'\n');
    atomic_file::write(path, &json, 0o644)
}

/// Writes a record, or removes it where there is none any more.
pub(crate) fn keep(path: &Path, record: Option<&impl Serialize>) -> anyhow::Result<()> {
    match record {
        Some(record) => write(path, record),
        None => atomic_file::remove(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::spool::tests::report;

    #[test]
    fn a_server_has_the_first_report_of_each_run_and_another_server_has_none() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000);
        let run = RunId::now();
        let first = report(run);
        let again = Report {
            reboot_required: true,
            ..report(run)
        };
        let delivered = Delivered::after(None, &first, "one", now);
        assert_eq!(
            delivered.clone().remembered("one", now),
            Some(ReportedState::of(&first))
        );
        assert_eq!(delivered.clone().remembered("two", now), None);
        let repeated = Delivered::after(Some(delivered.clone()), &again, "one", now);
        assert_eq!(
            repeated.remembered("one", now),
            Some(ReportedState::of(&first))
        );
        let elsewhere = Delivered::after(Some(delivered.clone()), &again, "two", now);
        assert_eq!(
            elsewhere.remembered("two", now),
            Some(ReportedState::of(&again))
        );
        let later = Report {
            run: RunId::now(),
            ..again
        };
        let last = Delivered::after(Some(delivered), &later, "one", now);
        assert_eq!(last.remembered("one", now), Some(ReportedState::of(&later)));
    }
}
