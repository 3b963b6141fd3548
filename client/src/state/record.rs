//! What the client remembers between runs, a file for each.

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
    /// Which inputs it was built with, as far as a self-update moves them.
    pub mark: Option<Digest>,
    /// Whether it comes of a self-update.
    #[serde(default)]
    pub auto: bool,
    /// What ran before: where a rollback by hand goes.
    pub previous: Option<SystemPath>,
    /// Where that is a specialisation, the system that it belongs to, to which a boot leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_boots: Option<SystemPath>,
}

/// A system that takes effect at the next boot, and is to be proven then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaiting {
    /// What is to be installed; `previous` is none if nothing ran.
    pub installed: Installed,
    /// Whether it comes of a self-update.
    pub auto: bool,
    /// What the machine goes back to.
    pub before: Before,
    /// The boot during which this was written: another one tells that the machine was booted since.
    pub boot: BootId,
    /// Whether the appliance was reachable when it was staged.
    pub was_reachable: bool,
    /// Why it isn't to be kept: the next boot goes back.
    pub failure: Option<Unkept>,
    /// Where the system was switched to before, and only its boot awaits a proof: what is installed if it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Installed>,
    /// Whether the way back from it failed, and was told to have.
    #[serde(default)]
    pub is_stuck: bool,
}

/// Why a system that was booted isn't to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unkept {
    /// What doesn't work.
    pub error: String,
    /// Whether it may be the network's or the appliance's fault rather than the system's.
    #[serde(rename = "is_passing")]
    pub retry: bool,
}

/// What the last report said about the machine: as long as this stays true, there is nothing to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    generation: GenerationId,
    running: Option<SystemPath>,
    booted: Option<SystemPath>,
    reboot_required: bool,
    held: Option<Timestamp>,
}

/// What the appliance was told last, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    #[serde(flatten)]
    told: Told,
    /// The run of the report that told it.
    #[serde(default)]
    run: Option<RunId>,
    /// The server that was told, by its address.
    #[serde(default)]
    server: Option<String>,
    /// By this machine's clock.
    at: Timestamp,
}

/// A run that came to its end, as `bento-client status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    /// Its id.
    pub run: RunId,
    /// The generation that it was about.
    pub generation: GenerationId,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it was a self-update.
    pub auto: bool,
    /// When it began, by this machine's clock.
    pub started: Timestamp,
    /// When it ended, by this machine's clock.
    pub finished: Timestamp,
    /// What failed.
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

impl Told {
    /// What a report about this generation in this situation says.
    pub fn new(generation: GenerationId, situation: &Situation, reboot_required: bool) -> Self {
        Told {
            generation,
            running: situation.running.clone(),
            booted: situation.booted.clone(),
            reboot_required,
            held: situation.held,
        }
    }

    /// What a report says.
    pub fn by(report: &Report) -> Self {
        Told {
            generation: report.generation,
            running: report.system.running.clone(),
            booted: report.system.booted.clone(),
            reboot_required: report.reboot_required,
            held: report.held,
        }
    }
}

impl Delivered {
    /// For how long the appliance is trusted to remember: afterwards it is told again. An appliance that was restored
    /// from a copy, or at which this machine was enrolled anew, never learned of what it was told before.
    const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

    /// What a server was told last, now that it has this report too. Of a run it counts the first: what a start that
    /// completes a run tells once more, it doesn't learn.
    pub fn after(last: Option<Self>, report: &Report, server: &str, now: Timestamp) -> Self {
        let knows = |last: &Delivered| last.run == Some(report.run) && last.is_of(server);
        last.filter(knows).unwrap_or_else(|| Delivered {
            told: Told::by(report),
            run: Some(report.run),
            server: Some(server.to_owned()),
            at: now,
        })
    }

    /// What a server still knows. A time in the future is no better than one long ago: the clock was wrong.
    pub fn remembered(self, server: &str, now: Timestamp) -> Option<Told> {
        let is_recent = now.duration_since(self.at).abs() < Self::REMEMBERED;
        (is_recent && self.is_of(server)).then_some(self.told)
    }

    fn is_of(&self, server: &str) -> bool {
        self.server.as_deref() == Some(server)
    }
}

impl PastRun {
    /// How many are remembered.
    pub const KEPT: usize = 20;

    /// What a report says of its run.
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
    fn a_server_knows_what_it_was_told_first_of_each_run_and_only_it_does() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000);
        let run = RunId::now();
        let first = report(run);
        let again = Report {
            reboot_required: true,
            ..report(run)
        };
        let told = Delivered::after(None, &first, "one", now);
        assert_eq!(told.clone().remembered("one", now), Some(Told::by(&first)));
        assert_eq!(told.clone().remembered("two", now), None);
        let repeated = Delivered::after(Some(told.clone()), &again, "one", now);
        assert_eq!(repeated.remembered("one", now), Some(Told::by(&first)));
        let elsewhere = Delivered::after(Some(told.clone()), &again, "two", now);
        assert_eq!(elsewhere.remembered("two", now), Some(Told::by(&again)));
        let later = Report {
            run: RunId::now(),
            ..again
        };
        let later_told = Delivered::after(Some(told), &later, "one", now);
        assert_eq!(later_told.remembered("one", now), Some(Told::by(&later)));
    }
}
