//! Reads what is known of every machine, and judges it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bento_protocol::{Format, HostName, SystemPath};
use jiff::Timestamp;

use super::{HostStatus, MachineStatus, PublishedVersion, Reported, Status, judge};
use crate::durable;
use crate::enrolment::Enrolments;
use crate::fleet::Host;
use crate::problem::Problem;
use crate::published::Published;
use crate::report::{Content, Ledger, Record, one_line};
use crate::roster::read_fleet;
use crate::state::{HostState, Runtime, State};

/// How many machines are read at once: more than there are processors, because with a cold cache each waits for the disk.
const AT_ONCE: usize = 8;

/// All that was read of a fleet: what is known of it at any moment follows from this without reading anything anew.
#[derive(Debug)]
pub struct Reading {
    state: State,
    runtime: Runtime,
    hosts: BTreeMap<HostName, Host>,
    enrolments: Enrolments,
    /// None where no appliance runs that could tell.
    problems: Option<Vec<Problem>>,
    machines: BTreeMap<HostName, MachineReading>,
}

/// What was read of one machine: two small files, and the time of a third.
#[derive(Debug, Default)]
struct MachineReading {
    published: Option<Published>,
    ledger: Ledger,
    contact: Option<Timestamp>,
    /// What couldn't be read, a safe line each.
    unreadable: Vec<String>,
}

impl Status {
    /// Reads what is known now. Files of one machine that can't be read are that machine's error, and stop no other.
    ///
    /// # Errors
    /// When there is no state, or the fleet in it can't be read.
    pub fn read(state: &State, runtime: &Runtime, now: Timestamp) -> anyhow::Result<Self> {
        Ok(Reading::of(state, runtime)?.status(now))
    }
}

impl Reading {
    /// Reads everything.
    ///
    /// # Errors
    /// As [`Status::read`].
    pub fn of(state: &State, runtime: &Runtime) -> anyhow::Result<Self> {
        let (hosts, enrolments) = read_fleet(state)?;
        let machines = read_machines(state, &hosts);
        Ok(Reading {
            problems: read_problems(&runtime.problems()),
            state: state.clone(),
            runtime: runtime.clone(),
            hosts,
            enrolments,
            machines,
        })
    }

    /// Reads again which machines there are. What was read of those that stay is kept.
    ///
    /// # Errors
    /// As [`Status::read`].
    pub fn read_fleet(&mut self) -> anyhow::Result<()> {
        (self.hosts, self.enrolments) = read_fleet(&self.state)?;
        self.machines
            .retain(|name, _| self.hosts.contains_key(name));
        for name in self.hosts.keys() {
            let keep = self.state.host(name);
            self.machines
                .entry(name.clone())
                .or_insert_with(|| MachineReading::of(&keep));
        }
        Ok(())
    }

    /// Reads one machine again, if the fleet has it.
    pub fn read_machine(&mut self, name: &HostName) {
        if let Some(machine) = self.machines.get_mut(name) {
            *machine = MachineReading::of(&self.state.host(name));
        }
    }

    /// Reads again what is wrong.
    pub fn read_problems(&mut self) {
        self.problems = read_problems(&self.runtime.problems());
    }

    /// The machines of the fleet.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }

    /// What the reports of each machine come to since it was enrolled.
    pub fn ledgers(&self) -> BTreeMap<HostName, Ledger> {
        let ledger = |(name, machine): (&HostName, &MachineReading)| {
            let ledger = machine.ledger_since(self.enrolled(name)).into_owned();
            (name.clone(), ledger)
        };
        self.machines.iter().map(ledger).collect()
    }

    fn enrolled(&self, name: &HostName) -> Option<Timestamp> {
        self.enrolments.get(name).map(|enrolment| enrolment.since)
    }

    /// What is known at a moment, by what was read.
    pub fn status(&self, now: Timestamp) -> Status {
        let is_one_machines = |problem: &&Problem| {
            let host = problem.host.as_ref();
            host.is_some_and(|name| self.hosts.contains_key(name))
        };
        let (of_machines, of_fleet): (Vec<_>, Vec<_>) =
            self.problems.iter().flatten().partition(is_one_machines);
        let (notes, of_machines) = of_machines.into_iter().partition(|told| told.is_note);
        let (mut problems_of, mut notes_of) = (by_machine(of_machines), by_machine(notes));
        let nothing = MachineReading::default();
        let mut machine = |(name, host): (&HostName, &Host)| {
            let enrolled = self.enrolled(name);
            let problems = problems_of.remove(name).unwrap_or_default();
            let reading = self.machines.get(name).unwrap_or(&nothing);
            MachineStatus {
                notes: notes_of.remove(name).unwrap_or_default(),
                ..reading.status(name, host, enrolled, problems, now)
            }
        };
        Status {
            format: Format,
            at: now,
            hosts: self.hosts.iter().map(&mut machine).collect(),
            problems: self
                .problems
                .is_some()
                .then(|| of_fleet.into_iter().map(ToString::to_string).collect()),
        }
    }
}

impl MachineReading {
    fn of(keep: &HostState) -> Self {
        let mut unreadable = Vec::new();
        let published = or_default(Published::read(keep), &keep.published(), &mut unreadable);
        let ledger = or_default(Ledger::read(keep), &keep.ledger(), &mut unreadable);
        MachineReading {
            published,
            ledger,
            contact: modified(&keep.seen()),
            unreadable,
        }
    }

    /// What was received before the machine was enrolled came from another one that had its name.
    fn ledger_since(&self, enrolled: Option<Timestamp>) -> Cow<'_, Ledger> {
        match enrolled {
            Some(enrolled) => Cow::Owned(self.ledger.clone().since(enrolled)),
            None => Cow::Borrowed(&self.ledger),
        }
    }

    fn status(
        &self,
        name: &HostName,
        host: &Host,
        enrolled: Option<Timestamp>,
        problems: Vec<String>,
        now: Timestamp,
    ) -> MachineStatus {
        let published = self.published.as_ref();
        let ledger = self.ledger_since(enrolled);
        let newest = ledger.newest.as_ref();
        let state = judge(published, &ledger);
        let lines: Vec<_> = self.unreadable.iter().cloned().chain(problems).collect();
        let seen = self.contact.or(newest.map(|record| record.received));
        // An enrolment that lies ahead was noted while the clock was wrong, and nothing came before it.
        let enrolled_before = enrolled.filter(|enrolled| *enrolled <= now);
        let seen = seen.filter(|seen| enrolled_before.is_none_or(|enrolled| *seen >= enrolled));
        MachineStatus {
            name: name.clone(),
            state,
            expected_system: published.and_then(|published| published.expected_system.clone()),
            reported: newest.map(Reported::new),
            seen,
            silent: seen
                .or(enrolled)
                .map(|contact| is_over(contact, host.silent_after.as_duration(), now)),
            paused: host.paused,
            held: newest.and_then(Record::held).filter(|until| *until > now),
            runs: newest.map_or(0, |_| ledger.runs()),
            error: if lines.is_empty() {
                error(&ledger).or_else(|| mismatch(state, published?, &ledger))
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
            outcome: Cow::Borrowed(record.outcome_name()),
            auto: record.is_auto(),
            at: record.received,
            built: record.built().cloned(),
            running: record.running().cloned(),
        }
    }
}

fn read_machines(
    state: &State,
    hosts: &BTreeMap<HostName, Host>,
) -> BTreeMap<HostName, MachineReading> {
    let names: Vec<_> = hosts.keys().collect();
    let read = |names: &[&HostName]| -> Vec<_> {
        let read = |name: &&HostName| ((*name).clone(), MachineReading::of(&state.host(name)));
        names.iter().map(read).collect()
    };
    let share = names.len().div_ceil(AT_ONCE).max(AT_ONCE);
    thread::scope(|scope| {
        // Not Scope::spawn, which panics where there are no threads left: then this one reads them all.
        let spawn = |names| {
            let thread = thread::Builder::new().spawn_scoped(scope, move || read(names));
            thread.map_err(|_| names)
        };
        let threads: Vec<_> = names.chunks(share).map(spawn).collect();
        let join = |thread: Result<thread::ScopedJoinHandle<'_, _>, _>| match thread {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(names) => read(names),
        };
        threads.into_iter().flat_map(join).collect()
    })
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

/// How what a machine built differs from what was built here, where that is its state.
fn mismatch(state: HostStatus, published: &Published, ledger: &Ledger) -> Option<String> {
    if state != HostStatus::Mismatch {
        return None;
    }
    let (here, there) = (
        published.expected_system.as_ref()?,
        ledger.judged()?.built()?,
    );
    let (here, there) = (short(here), short(there));
    Some(format!(
        "it built {there}…, and `bento build` {here}… of the same generation"
    ))
}

/// What runs on a machine, in short.
fn version(ledger: &Ledger) -> Option<String> {
    let newest = ledger.newest.as_ref()?;
    let running = newest.running()?;
    if matches!(newest.content, Content::Legacy(_)) {
        return Some(short(running));
    }
    let confirmed = ledger
        .confirmed
        .as_ref()
        .filter(|record| record.running() == Some(running))?;
    confirmed.generation().map(|generation| generation.short())
}

/// By what a person tells systems apart: the beginning of the hash.
fn short(system: &SystemPath) -> String {
    let name = system.as_str().rsplit('/').next().unwrap_or_default();
    name.chars().take(8).collect()
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
        if let Some(host) = &problem.host {
            let lines = lines.entry(host.clone()).or_default();
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

#[cfg(test)]
mod tests;
