//! The status document: printed by `bento status --json`, and read again by a remote `bento`.

use std::borrow::Cow;

use anyhow::ensure;
use bento_protocol::{Format, GenerationId, HostName, SystemPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::HostStatus;
use crate::store::machines;

/// The status of a fleet at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of this document.
    pub format: Format,
    /// The time of the status.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
    /// The problems of the fleet as a whole, a line each; none if no appliance runs.
    pub problems: Option<Vec<String>>,
    /// The machines, by name.
    pub hosts: Vec<MachineStatus>,
    /// The machines that were removed within the last week and can come back, by name.
    #[serde(default)]
    pub removed: Vec<RemovedMachine>,
}

/// A machine that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedMachine {
    /// Its name.
    pub name: HostName,
    /// The time of the removal.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
}

/// The status of one machine. Unknown values are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: HostName,
    /// Its state.
    pub state: HostStatus,
    /// The published generation.
    pub published: Option<PublishedVersion>,
    /// The newest report.
    pub reported: Option<Reported>,
    /// The system that `bento build` built from the published generation.
    pub expected_system: Option<SystemPath>,
    /// The last contact.
    #[serde(serialize_with = "option_to_the_second")]
    pub seen: Option<Timestamp>,
    /// Whether the last contact is longer ago than normal.
    pub silent: Option<bool>,
    /// Whether the administrator has paused its publications.
    pub paused: bool,
    /// The end of the hold that its owner set, if that is in the future.
    #[serde(serialize_with = "option_to_the_second")]
    pub held: Option<Timestamp>,
    /// The number of reported runs.
    pub runs: u64,
    /// The error, in one line that is safe for a terminal.
    pub error: Option<String>,
    /// The problems that stop its publication, a line each.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Notes for the administrator, a line each: nothing is wrong.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The running version, in short: the generation if its system is known to be built from that.
    #[serde(default)]
    pub version: Option<String>,
}

/// The generation that a machine finds when it polls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedVersion {
    /// The generation.
    pub generation: GenerationId,
    /// The time of publication.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
}

/// The newest report of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The generation that was polled in the run.
    pub generation: Option<GenerationId>,
    /// The outcome of the run, in the words of the report, or of a bento 2022 log's name.
    pub outcome: Cow<'static, str>,
    /// Whether the machine moved its inputs by itself.
    pub auto: bool,
    /// The time of receipt, by the appliance's clock.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
    /// The system that was built.
    pub built: Option<SystemPath>,
    /// The system that ran at the end.
    pub running: Option<SystemPath>,
    /// The name of the running specialisation; none if it is the system itself.
    #[serde(default)]
    pub specialisation: Option<String>,
}

impl Status {
    /// Checks that the fleet has these machines.
    ///
    /// # Errors
    /// When one is unknown.
    pub fn require(&self, names: &[HostName]) -> anyhow::Result<()> {
        let known = |name: &&HostName| self.hosts.iter().any(|host| host.name == **name);
        let unknown = names.iter().filter(|name| !known(name));
        let unknown: Vec<_> = unknown.map(HostName::as_str).collect();
        ensure!(unknown.is_empty(), machines::unknown(unknown.join(" or ")));
        Ok(())
    }

    /// Keeps only these machines; all if none is named.
    ///
    /// # Errors
    /// When one is unknown.
    pub fn retain(&mut self, names: &[HostName]) -> anyhow::Result<()> {
        self.require(names)?;
        let is_wanted = |name: &HostName| names.is_empty() || names.contains(name);
        self.hosts.retain(|host| is_wanted(&host.name));
        self.removed.retain(|machine| is_wanted(&machine.name));
        Ok(())
    }

    /// Adds problems that the administrator's own `bento` found, without duplicates.
    pub fn add_problems(&mut self, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let problems = self.problems.get_or_insert_default();
        for line in lines {
            if !problems.contains(&line) {
                problems.push(line);
            }
        }
    }

    /// Whether a machine, or the fleet as a whole, needs attention. It also does if its problems are unknown, because no
    /// appliance runs.
    pub fn needs_attention(&self) -> bool {
        self.problems
            .as_ref()
            .is_none_or(|problems| !problems.is_empty())
            || self.hosts.iter().any(MachineStatus::needs_attention)
    }

    /// Whether another status is the same, apart from its time.
    pub fn says_the_same_as(&self, other: &Status) -> bool {
        self.problems == other.problems
            && self.hosts == other.hosts
            && self.removed == other.removed
    }
}

impl MachineStatus {
    /// Whether it needs attention: it failed, isn't what it should be, or is silent. An update in progress doesn't count, nor
    /// does a task of the machine's owner, such as a reboot.
    pub fn needs_attention(&self) -> bool {
        self.has_bad_state() || self.silent == Some(true) || self.error.is_some()
    }

    /// Whether something is wrong although its state needs no attention: its folder can't be published, or a self-update
    /// failed.
    pub fn is_faulty(&self) -> bool {
        self.error.is_some() && !self.has_bad_state()
    }

    fn has_bad_state(&self) -> bool {
        match self.state {
            HostStatus::Unpublished
            | HostStatus::RolledBack
            | HostStatus::Failing
            | HostStatus::Drifted
            | HostStatus::Mismatch => true,
            HostStatus::New
            | HostStatus::Legacy
            | HostStatus::RebootPending
            | HostStatus::AutoUpdated
            | HostStatus::UpToDate
            | HostStatus::SyncPending
            | HostStatus::RebuildPending => false,
        }
    }
}

/// Serialises a time without fractions, which some readers of RFC 3339, such as jq's `fromdate`, don't accept.
fn to_the_second<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.0}"))
}

fn option_to_the_second<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to_the_second(time, serializer),
        None => serializer.serialize_none(),
    }
}
