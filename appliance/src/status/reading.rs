//! Reads what is known of every machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bento_protocol::{Format, GenerationId, HostName, SystemPath};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{HostStatus, judge};
use crate::durable;
use crate::enrolment::Enrolments;
use crate::fleet::{Fleet, Host};
use crate::problem::Problem;
use crate::published::Published;
use crate::report::{Content, Ledger, Record, one_line};
use crate::state::{HostState, Runtime, State};

/// What is known of a fleet at one moment: the document that `bento status --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
}

/// What is known of one machine. What isn't known is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    #[serde(skip)]
    pub problems: Vec<String>,
    /// What the administrator is reminded of, a line each: nothing is wrong.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// What runs on it, in short: a generation where its system is known to be built from that one.
    #[serde(skip)]
    pub version: Option<String>,
}

/// What a machine finds when it polls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishedVersion {
    /// The generation.
    pub generation: GenerationId,
    /// Since when.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
}

/// What a machine's newest report says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// The generation that was polled in the run.
    pub generation: Option<GenerationId>,
    /// How the run ended, in the words of the report, or of a bento 2022 log's name.
    pub outcome: &'static str,
    /// Whether the machine moved its inputs by itself.
    pub auto: bool,
    /// When it was taken in, by the appliance's clock.
    #[serde(serialize_with = "to_the_second")]
    pub at: Timestamp,
    /// The system that was built.
    pub built: Option<SystemPath>,
    /// The system that ran at the end.
    pub running: Option<SystemPath>,
}

impl Status {
    /// Reads what is known now. Files of one machine that can't be read are that machine's error, and stop no other.
    ///
    /// # Errors
    /// When there is no state, or the fleet in it can't be read.
    pub fn read(state: &State, runtime: &Runtime, now: Timestamp) -> anyhow::Result<Self> {
        let root = state.root().display();
        if !state.root().is_dir() {
            bail!(
                "there is no state in {root}: run this in the container, `podman exec bento bento status`, \
                 or say where it lies with --state"
            );
        }
        let fleet: Option<Fleet> = durable::read_json(&state.fleet()).with_context(|| {
            format!(
                "the last good fleet, {}, can't be read",
                state.fleet().display()
            )
        })?;
        let enrolments = Enrolments::read(state).with_context(|| {
            format!(
                "the accounts, {}, can't be read",
                state.enrolments().display()
            )
        })?;
        let hosts = fleet.map_or_else(BTreeMap::new, |fleet| fleet.hosts);
        let problems = read_problems(&runtime.problems());
        let is_one_machines = |problem: &&Problem| {
            let host = problem.host.as_ref();
            host.is_some_and(|name| hosts.contains_key(name))
        };
        let (of_machines, of_fleet): (Vec<_>, Vec<_>) =
            problems.iter().flatten().partition(is_one_machines);
        let (notes, of_machines) = of_machines.into_iter().partition(|told| told.is_note);
        let (mut problems_of, mut notes_of) = (by_machine(of_machines), by_machine(notes));
        let mut machine = |(name, host)| {
            let enrolled = enrolments.get(name).map(|enrolment| enrolment.since);
            let problems = problems_of.remove(name).unwrap_or_default();
            let notes = notes_of.remove(name).unwrap_or_default();
            let keep = state.host(name);
            let status = MachineStatus::read(name, host, &keep, enrolled, problems, now);
            MachineStatus { notes, ..status }
        };
        Ok(Status {
            format: Format,
            at: now,
            hosts: hosts.iter().map(&mut machine).collect(),
            problems: problems
                .is_some()
                .then(|| of_fleet.into_iter().map(ToString::to_string).collect()),
        })
    }

    /// Leaves only these machines; all, when none is named.
    ///
    /// # Errors
    /// When the fleet hasn't one of them.
    pub fn retain(&mut self, names: &[HostName]) -> anyhow::Result<()> {
        let known = |name: &&HostName| self.hosts.iter().any(|host| host.name == **name);
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            bail!(
                "there is no machine {unknown} in the fleet: bento host list names those that there are"
            );
        }
        self.hosts
            .retain(|host| names.is_empty() || names.contains(&host.name));
        Ok(())
    }
}

impl MachineStatus {
    /// Whether somebody has to look at it: it failed, isn't what it should be, or is silent. What passes by itself, such
    /// as an update that is under way, or is the machine's owner's to do, such as a reboot, isn't meant.
    pub fn needs_attention(&self) -> bool {
        let is_bad = match self.state {
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
        };
        is_bad || self.silent == Some(true) || self.error.is_some()
    }

    /// What was received before the machine was enrolled came from another one that had its name.
    fn read(
        name: &HostName,
        host: &Host,
        keep: &HostState,
        enrolled: Option<Timestamp>,
        problems: Vec<String>,
        now: Timestamp,
    ) -> Self {
        let mut unreadable = Vec::new();
        let published = or_default(Published::read(keep), &keep.published(), &mut unreadable);
        let ledger = or_default(Ledger::read(keep), &keep.ledger(), &mut unreadable);
        let ledger = match enrolled {
            Some(enrolled) => ledger.since(enrolled),
            None => ledger,
        };
        let newest = ledger.newest.as_ref();
        let lines: Vec<_> = unreadable.into_iter().chain(problems).collect();
        let seen = modified(&keep.seen()).or(newest.map(|record| record.received));
        let seen = seen.filter(|seen| enrolled.is_none_or(|enrolled| *seen >= enrolled));
        MachineStatus {
            name: name.clone(),
            state: judge(published.as_ref(), &ledger),
            expected_system: published
                .as_ref()
                .and_then(|published| published.expected_system.clone()),
            reported: newest.map(Reported::new),
            seen,
            silent: seen
                .or(enrolled)
                .map(|contact| is_over(contact, host.silent_after.as_duration(), now)),
            paused: host.paused,
            held: newest.and_then(Record::held).filter(|until| *until > now),
            runs: newest.map_or(0, |_| ledger.runs()),
            error: if lines.is_empty() {
                error(&ledger)
            } else {
                Some(lines.join("; "))
            },
            problems: lines,
            notes: Vec::new(),
            version: version(&ledger),
            published: published.map(|published| PublishedVersion {
                generation: published.generation,
                at: published.at,
            }),
        }
    }
}

impl Reported {
    fn new(record: &Record) -> Self {
        Reported {
            generation: record.generation(),
            outcome: record.outcome_name(),
            auto: record.is_auto(),
            at: record.received,
            built: record.built().cloned(),
            running: record.running().cloned(),
        }
    }
}

/// Why the newest run failed, or the one that the state is judged by. The ledger holds it as one safe line.
fn error(ledger: &Ledger) -> Option<String> {
    let judged = [ledger.newest.as_ref(), ledger.judged()];
    let failed = judged
        .into_iter()
        .flatten()
        .find(|record| !record.is_success())?;
    let silent = || {
        format!(
            "{}: the report doesn't say why, its log may",
            failed.outcome_name()
        )
    };
    Some(
        failed
            .error()
            .filter(|error| !error.is_empty())
            .map_or_else(silent, str::to_owned),
    )
}

/// What runs on a machine, in short.
fn version(ledger: &Ledger) -> Option<String> {
    let newest = ledger.newest.as_ref()?;
    let running = newest.running()?;
    if matches!(newest.content, Content::Legacy(_)) {
        let name = running.as_str().rsplit('/').next().unwrap_or_default();
        return Some(name.chars().take(8).collect());
    }
    let confirmed = ledger
        .confirmed
        .as_ref()
        .filter(|record| record.running() == Some(running))?;
    confirmed.generation().map(|generation| generation.short())
}

fn is_over(contact: Timestamp, normal: Duration, now: Timestamp) -> bool {
    // A contact in the future, after the clock was set back, is no long silence.
    Duration::try_from(now.duration_since(contact)).is_ok_and(|silence| silence > normal)
}

/// A file that can't be read counts as if it weren't there, and that is said.
fn or_default<T: Default>(read: io::Result<T>, path: &Path, unreadable: &mut Vec<String>) -> T {
    read.unwrap_or_else(|error| {
        unreadable.push(one_line(
            &format!("{} can't be read: {error}", path.display()),
            usize::MAX,
        ));
        T::default()
    })
}

/// What the appliance that runs here tells; none if none does.
fn read_problems(path: &Path) -> Option<Vec<Problem>> {
    durable::read_json(path).unwrap_or_else(|error| {
        Some(vec![Problem::new(
            path.display().to_string(),
            format!("what is wrong was written here, but can't be read: {error}"),
            "run this as the user whose appliance it is",
        )])
    })
}

/// A line for each, by the machine that it is about.
fn by_machine(problems: Vec<&Problem>) -> BTreeMap<HostName, Vec<String>> {
    let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for problem in problems {
        if let Some(name) = &problem.host {
            let lines = lines.entry(name.clone()).or_default();
            lines.push(without_name(problem));
        }
    }
    lines
}

/// A problem where the machine's name stands before it anyway.
fn without_name(problem: &Problem) -> String {
    Problem {
        host: None,
        ..problem.clone()
    }
    .to_string()
}

fn modified(path: &Path) -> Option<Timestamp> {
    fs::metadata(path)
        .and_then(|data| data.modified())
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok())
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

#[cfg(test)]
mod tests;
