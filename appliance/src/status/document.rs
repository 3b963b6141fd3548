//! What is known of a fleet, as `bento status --json` prints it, and as it is read again elsewhere.

use std::borrow::Cow;

use anyhow::ensure;
use bento_protocol::{Format, GenerationId, HostName, SystemPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::HostStatus;
use crate::store::machines;

/// What is known of a fleet at one moment: the document that `bento status --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of this document.
    pub format: Format,
    /// The moment.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
    /// What is wrong with the fleet as a whole, a line each; none where no appliance runs that could tell.
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
    /// When the appliance took its account away.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
}

/// What is known of one machine. What isn't known is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: HostName,
    /// Its state.
    pub state: HostStatus,
    /// What it finds when it polls.
    pub published: Option<PublishedVersion>,
    /// What its newest report says.
    pub reported: Option<Reported>,
    /// What `bento build` made of the published generation.
    pub expected_system: Option<SystemPath>,
    /// The last contact.
    #[serde(serialize_with = "option_to_the_second")]
    pub seen: Option<Timestamp>,
    /// Whether that is longer ago than is normal for it.
    pub silent: Option<bool>,
    /// Whether the administrator holds its generation.
    pub paused: bool,
    /// The time until which its owner asked it to wait, if that isn't over.
    #[serde(serialize_with = "option_to_the_second")]
    pub held: Option<Timestamp>,
    /// How many runs it reported.
    pub runs: u64,
    /// What is wrong, in one line that is fit for a terminal.
    pub error: Option<String>,
    /// The same, a line for each thing that stops its publication.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What the administrator is reminded of, a line each: nothing is wrong.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What runs on it, in short: a generation where its system is known to be built from that one.
    #[serde(default)]
    pub version: Option<String>,
}

/// What a machine finds when it polls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedVersion {
    /// The generation.
    pub generation: GenerationId,
    /// Since when.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
}

/// What a machine's newest report says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The generation that was polled in the run.
    pub generation: Option<GenerationId>,
    /// How the run ended, in the words of the report, or of a bento 2022 log's name.
    pub outcome: Cow<'static, str>,
    /// Whether the machine moved its inputs by itself.
    pub auto: bool,
    /// When it was taken in, by the appliance's clock.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
    /// The system that was built.
    pub built: Option<SystemPath>,
    /// The system that ran at the end.
    pub running: Option<SystemPath>,
    /// Which of its specialisations that is, by name; none where it is the system itself.
    #[serde(default)]
    pub specialisation: Option<String>,
}

impl Status {
    /// Refuses names of machines that the fleet hasn't.
    ///
    /// # Errors
    /// When there is one.
    pub fn require(&self, names: &[HostName]) -> anyhow::Result<()> {
        let known = |name: &&HostName| self.hosts.iter().any(|host| host.name == **name);
        let unknown = names.iter().filter(|name| !known(name));
        let unknown: Vec<_> = unknown.map(HostName::as_str).collect();
        ensure!(unknown.is_empty(), machines::unknown(unknown.join(" or ")));
        Ok(())
    }

    /// Leaves only these machines; all, when none is named.
    ///
    /// # Errors
    /// When the fleet hasn't one of them.
    pub fn retain(&mut self, names: &[HostName]) -> anyhow::Result<()> {
        self.require(names)?;
        let is_asked = |name: &HostName| names.is_empty() || names.contains(name);
        self.hosts.retain(|host| is_asked(&host.name));
        self.removed.retain(|machine| is_asked(&machine.name));
        Ok(())
    }

    /// Adds what is wrong with the fleet where somebody asks from, if the appliance doesn't say the same.
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

    /// Whether somebody has to look: at a machine, or at the fleet as a whole. That nobody knows whether anything is wrong
    /// with it, because no appliance runs, is no less bad.
    pub fn needs_attention(&self) -> bool {
        self.problems
            .as_ref()
            .is_none_or(|problems| !problems.is_empty())
            || self.hosts.iter().any(MachineStatus::needs_attention)
    }

    /// Whether another one says the same, be it of another moment.
    pub fn says_the_same_as(&self, other: &Status) -> bool {
        self.problems == other.problems
            && self.hosts == other.hosts
            && self.removed == other.removed
    }
}

impl MachineStatus {
    /// Whether somebody has to look at it: it failed, isn't what it should be, or is silent. What passes by itself, such
    /// as an update that is under way, or is the machine's owner's to do, such as a reboot, isn't meant.
    pub fn needs_attention(&self) -> bool {
        self.has_bad_state() || self.silent == Some(true) || self.error.is_some()
    }

    /// Whether something is wrong, though its state by itself needs nobody: what is in its folder can't be published, or
    /// an update that it made by itself failed.
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

/// Without fractions, which some readers of RFC 3339, such as jq's `fromdate`, don't take.
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
