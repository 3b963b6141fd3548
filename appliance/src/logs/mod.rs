//! `bento logs`: the reports of one machine.
//!
//! [`MachineReports`] reads them, [`rendering`] prints them for people, and [`follow`](mod@follow) waits for new ones.

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

use crate::report::{Content, Record, RetentionLimits, Store};
use crate::store::machines::{self, KnownMachines};
use crate::store::paths::State;

/// The stored reports of one machine.
#[derive(Debug)]
pub struct MachineReports {
    name: HostName,
    store: Store,
    /// The time of the enrolment: earlier reports are those of another machine. None without an account.
    since: Option<Timestamp>,
}

/// One report without its log. Missing values are none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportEntry {
    /// Its number in the order of receipt.
    pub number: u64,
    /// The time of receipt, by the appliance's clock.
    pub received: Timestamp,
    /// The id of the run.
    pub run: Option<RunId>,
    /// The outcome of the run, as in the report, or in the name of a bento 2022 log.
    pub outcome: &'static str,
    /// Whether the outcome is a success.
    pub success: bool,
    /// Whether the machine updated its inputs by itself.
    pub auto: bool,
    /// The polled generation of the run.
    pub generation: Option<GenerationId>,
    /// The start, by the machine's clock.
    pub started: Option<Timestamp>,
    /// The end, by the machine's clock.
    pub finished: Option<Timestamp>,
    /// The date of a bento 2022 log, by the machine's clock, in an unknown time zone.
    pub legacy_date: Option<DateTime>,
    /// The duration of all phases.
    pub seconds: f64,
    /// The duration of each phase.
    pub phases: Vec<Phase>,
    /// The systems of the machine.
    pub system: Systems,
    /// Whether the update needs a reboot to take effect.
    pub reboot_required: bool,
    /// The end of a hold by its owner.
    pub held: Option<Timestamp>,
    /// The error, as the machine wrote it.
    pub error: Option<String>,
    /// The version of the client.
    pub client: Option<String>,
    /// The version of Nix.
    pub nix: Option<String>,
    /// A digest that distinguishes machines with the same key.
    pub machine: Option<Digest>,
    /// The name of the running specialisation, if any.
    pub specialisation: Option<String>,
}

impl MachineReports {
    /// Opens the stored reports of a machine.
    ///
    /// # Errors
    /// When there is no such machine in the fleet, or its reports can't be listed.
    pub fn open(state: &State, name: &HostName) -> anyhow::Result<Self> {
        let since = KnownMachines::read(state)?.since(name)?;
        let host = state.host(name);
        let store = Store::read(&host, RetentionLimits::default()).with_context(|| {
            let folder = host.reports();
            format!("can't list the reports of {name} in {}", folder.display())
        })?;
        Ok(MachineReports {
            name: name.clone(),
            store,
            since,
        })
    }

    /// Opens the reports under the name that a machine used last: a renamed machine reports under its former name for a
    /// while.
    ///
    /// # Errors
    /// As [`MachineReports::open`].
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
            // It includes the reports that were copied at the renaming.
            false => MachineReports {
                name: name.clone(),
                ..former
            },
        })
    }

    /// The time of the machine's enrolment.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// The reports, newest first, each read on demand.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = ReportEntry> {
        let is_its_own = |record: &Record| self.since.is_some_and(|since| record.received >= since);
        let records = self.store.records().rev().filter(is_its_own);
        records.map(ReportEntry::from)
    }

    /// The report of a selector.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, selector: &ReportSelector) -> anyhow::Result<ReportEntry> {
        let name = &self.name;
        let mut found = self.entries().filter(|entry| selector.matches(entry));
        let first = found.next();
        let Some(first) = first else {
            self.require_any()?;
            bail!(
                "{name} has no report {selector}: run `bento logs {name}` for all stored reports"
            );
        };
        if !matches!(selector, ReportSelector::Latest) && found.next().is_some() {
            bail!("{name} has several reports {selector}: use more of the run's id, or the number");
        }
        Ok(first)
    }

    /// Requires at least one report.
    ///
    /// # Errors
    /// When there is none.
    pub fn require_any(&self) -> anyhow::Result<()> {
        let name = &self.name;
        if self.entries().next().is_none() {
            bail!(
                "{name} has no reports yet: `bento status {name}` shows its last contact, and `bento-client check` on the \
                 machine shows the problem"
            );
        }
        Ok(())
    }

    /// The log of a run's build and activation, as the machine sent it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn log(&self, entry: &ReportEntry) -> anyhow::Result<String> {
        let log: io::Result<_> = self.store.log(entry.number);
        let log = log.with_context(|| {
            let number = entry.number;
            format!("can't read the log of report {number} of {}", self.name)
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
