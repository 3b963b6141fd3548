//! The reports of one machine, as `bento logs` shows them.
//!
//! [`History`] reads them, [`rendering`] shows them to a person, and [`follow`] waits for new ones.

pub mod follow;
pub mod rendering;
mod selector;

use std::io;

use anyhow::{Context, bail};
use bento_protocol::{Digest, GenerationId, HostName, Phase, RunId, Systems};
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::Serialize;

pub use selector::{ReportSelector, SelectorError};

use crate::report::{Content, Limits, Record, Store};
use crate::store::machines::{self, KnownMachines};
use crate::store::paths::State;

/// The reports that are kept of one machine.
#[derive(Debug)]
pub struct MachineReports {
    name: HostName,
    store: Store,
    /// Reports of before are another machine's. None is to be shown of a machine that has no account.
    since: Option<Timestamp>,
}

/// One report, with everything but its log. What it doesn't tell is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportEntry {
    /// The place in the order of receipt.
    pub number: u64,
    /// When it was taken in, by the appliance's clock.
    pub received: Timestamp,
    /// Of which run.
    pub run: Option<RunId>,
    /// How the run ended, in the words of the report, or of a bento 2022 log's name.
    pub outcome: &'static str,
    /// Whether that is a success.
    pub success: bool,
    /// Whether the machine moved its inputs by itself.
    pub auto: bool,
    /// The generation that was polled in the run.
    pub generation: Option<GenerationId>,
    /// By the machine's clock.
    pub started: Option<Timestamp>,
    /// By the machine's clock.
    pub finished: Option<Timestamp>,
    /// By the machine's clock, in a time zone that a bento 2022 log doesn't tell.
    pub legacy_date: Option<DateTime>,
    /// How long all phases took together.
    pub seconds: f64,
    /// How long each phase took.
    pub phases: Vec<Phase>,
    /// Which systems the machine had.
    pub system: Systems,
    /// Whether a change takes effect only at the next boot.
    pub reboot_required: bool,
    /// The time until which its owner asked it to wait.
    pub held: Option<Timestamp>,
    /// What failed, as the machine wrote it.
    pub error: Option<String>,
    /// The version of the client.
    pub client: Option<String>,
    /// The version of Nix.
    pub nix: Option<String>,
    /// A digest by which machines with the same key are told apart.
    pub machine: Option<Digest>,
    /// Which specialisation ran at the end, by name; none where the system itself did.
    pub specialisation: Option<String>,
}

impl MachineReports {
    /// Opens what is kept of a machine.
    ///
    /// # Errors
    /// When there is no such machine in the fleet, or its reports can't be listed.
    pub fn open(state: &State, name: &HostName) -> anyhow::Result<Self> {
        let since = KnownMachines::read(state)?.since(name)?;
        let host = state.host(name);
        let store = Store::read(&host, Limits::default()).with_context(|| {
            let folder = host.reports();
            format!(
                "the reports of {name} in {} can't be listed",
                folder.display()
            )
        })?;
        Ok(MachineReports {
            name: name.clone(),
            store,
            since,
        })
    }

    /// Opens what is kept of a machine by the name that it used last: one that was renamed still reports by its former
    /// name for a while.
    ///
    /// # Errors
    /// As [`History::open`].
    pub fn open_in_use(state: &State, name: &HostName) -> anyhow::Result<Self> {
        let own = Self::open(state, name)?;
        let (hosts, _) = machines::read_fleet(state)?;
        let Some(former) = machines::former(&hosts, name) else {
            return Ok(own);
        };
        let former = Self::open(state, former)?;
        let last = |reports: &MachineReports| Some(reports.entries().next()?.received);
        Ok(match last(&own) > last(&former) {
            true => own,
            // It has what was copied at the renaming, too.
            false => MachineReports {
                name: name.clone(),
                ..former
            },
        })
    }

    /// Since when the machine is enrolled.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// The reports, newest first; each is read when its turn comes.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = ReportEntry> {
        let is_its_own = |record: &Record| self.since.is_some_and(|since| record.received >= since);
        let records = self.store.records().rev().filter(is_its_own);
        records.map(ReportEntry::from)
    }

    /// The one report that is meant.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, selector: &ReportSelector) -> anyhow::Result<ReportEntry> {
        let name = &self.name;
        let mut found = self.entries().filter(|entry| selector.matches(entry));
        let first = found.next();
        let Some(first) = first else {
            self.require_any()?;
            bail!("{name} has no report {selector}: `bento logs {name}` shows those that are kept");
        };
        if !matches!(selector, ReportSelector::Latest) && found.next().is_some() {
            bail!(
                "{name} has several reports {selector}: give more of the run's id, or its number"
            );
        }
        Ok(first)
    }

    /// That there is a report at all.
    ///
    /// # Errors
    /// When there isn't.
    pub fn require_any(&self) -> anyhow::Result<()> {
        let name = &self.name;
        if self.entries().next().is_none() {
            bail!(
                "{name} has reported nothing yet: `bento status {name}` shows when it was last in contact, and \
                 `bento-client check` on the machine what it is missing"
            );
        }
        Ok(())
    }

    /// What the build and the activation of a run printed, as far as the machine sent it, as it wrote it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn log(&self, entry: &ReportEntry) -> anyhow::Result<String> {
        let log: io::Result<_> = self.store.log(entry.number);
        let log = log.with_context(|| {
            let number = entry.number;
            format!("the log of report {number} of {} can't be read", self.name)
        })?;
        Ok(String::from_utf8_lossy(&log.unwrap_or_default()).into_owned())
    }
}

impl From<Record> for ReportEntry {
    fn from(record: Record) -> Self {
        let mut entry = ReportEntry {
            number: record.sequence,
            received: record.received,
            run: None,
            outcome: record.outcome_name(),
            success: record.is_success(),
            auto: record.is_auto(),
            generation: record.generation(),
            started: None,
            finished: None,
            legacy_date: None,
            seconds: 0.0,
            phases: Vec::new(),
            system: Systems {
                built: record.built().cloned(),
                running: record.running().cloned(),
                ..Systems::default()
            },
            reboot_required: record.reboot_required(),
            held: record.held(),
            error: None,
            client: None,
            nix: None,
            machine: record.machine(),
            specialisation: record.specialisation().map(str::to_owned),
        };
        match record.content {
            Content::Legacy(log) => entry.legacy_date = Some(log.date),
            Content::Report(report) => {
                entry.run = Some(report.run);
                entry.started = Some(report.started);
                entry.finished = Some(report.finished);
                entry.seconds = report.phases.iter().map(|phase| phase.seconds).sum();
                entry.phases = report.phases;
                entry.system = report.system;
                entry.error = report.error;
                entry.client = Some(report.client);
                entry.nix = report.nix;
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests;
