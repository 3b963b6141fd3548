//! The reading of a fleet: the files of every machine, and the status that follows from them.

mod machine;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use bento_protocol::{Format, HostName};
use jiff::Timestamp;

use self::machine::MachineReading;
use super::{MachineStatus, RemovedMachine, Status};
use crate::fleet::Host;
use crate::problem::Problem;
use crate::report::Summary;
use crate::store::accounts::{Accounts, Removed};
use crate::store::atomic_file;
use crate::store::machines::{former, read_fleet};
use crate::store::paths::{Runtime, State};
use crate::store::stamp::PathStamp;

/// The number of parallel reads: more than there are processors, because with a cold cache each waits for the disk.
const AT_ONCE: usize = 8;

/// The content of all files of a fleet: its status at any time follows from this without another read.
#[derive(Debug)]
pub struct StatusReading {
    state: State,
    runtime: Runtime,
    hosts: BTreeMap<HostName, Host>,
    accounts: Accounts,
    /// None if no appliance runs.
    problems: Option<Vec<Problem>>,
    machines: BTreeMap<HostName, MachineReading>,
    fleet_stamps: [PathStamp; 2],
    problems_stamp: PathStamp,
}

impl Status {
    /// Reads the status. An unreadable file of a machine is an error of that machine only.
    ///
    /// # Errors
    /// When there is no state, or its fleet can't be read.
    pub fn read(state: &State, runtime: &Runtime, now: Timestamp) -> anyhow::Result<Self> {
        Ok(StatusReading::of(state, runtime)?.status(now))
    }
}

impl StatusReading {
    /// Reads everything.
    ///
    /// # Errors
    /// As [`Status::read`].
    pub fn of(state: &State, runtime: &Runtime) -> anyhow::Result<Self> {
        // Each stamp is taken before its file is read: a change in between is read twice, but never missed.
        let fleet_stamps = fleet_stamps(state);
        let problems_stamp = PathStamp::of(&runtime.problems());
        let (hosts, accounts) = read_fleet(state)?;
        let machines = read_machines(state, &hosts);
        Ok(StatusReading {
            problems: read_problems(&runtime.problems()),
            state: state.clone(),
            runtime: runtime.clone(),
            hosts,
            accounts,
            machines,
            fleet_stamps,
            problems_stamp,
        })
    }

    /// Reads changed files again; false if there are none.
    ///
    /// # Errors
    /// As [`Status::read`].
    pub fn refresh(&mut self) -> anyhow::Result<bool> {
        let mut has_changed = false;
        let fleet_stamps = fleet_stamps(&self.state);
        if self.fleet_stamps != fleet_stamps {
            self.read_fleet()?;
            self.fleet_stamps = fleet_stamps;
            has_changed = true;
        }
        let problems_stamp = PathStamp::of(&self.runtime.problems());
        if self.problems_stamp != problems_stamp {
            self.problems = read_problems(&self.runtime.problems());
            self.problems_stamp = problems_stamp;
            has_changed = true;
        }
        for (name, machine) in &mut self.machines {
            has_changed |= machine.refresh(&self.state.host(name));
        }
        Ok(has_changed)
    }

    /// Reads the list of machines again, and keeps the readings of those that stay.
    fn read_fleet(&mut self) -> anyhow::Result<()> {
        (self.hosts, self.accounts) = read_fleet(&self.state)?;
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

    /// The summary of each machine since it was enrolled.
    pub fn summaries(&self) -> BTreeMap<HostName, Summary> {
        let summary = |(name, machine): (&HostName, &MachineReading)| {
            let summary = machine.summary_since(self.enrolled(name)).into_owned();
            (name.clone(), summary)
        };
        let machines = self.machines.iter();
        machines
            .filter(|(name, _)| {
                self.hosts
                    .get(name)
                    .is_none_or(|host| host.renamed_to.is_none())
            })
            .map(summary)
            .collect()
    }

    fn enrolled(&self, name: &HostName) -> Option<Timestamp> {
        self.accounts.get(name).map(|account| account.since)
    }

    /// The status at a time, from the files as they were read.
    pub fn status(&self, now: Timestamp) -> Status {
        let is_one_machines = |problem: &&Problem| {
            let host = problem.host.as_ref();
            host.is_some_and(|name| self.hosts.contains_key(name))
        };
        let (of_machines, of_fleet): (Vec<_>, Vec<_>) =
            self.problems.iter().flatten().partition(is_one_machines);
        let (notes, of_machines) = of_machines.into_iter().partition(|problem| problem.is_note);
        let (mut problems_of, mut notes_of) = (by_machine(of_machines), by_machine(notes));
        let nothing = MachineReading::default();
        let mut machine = |(name, host): (&HostName, &Host)| {
            let enrolled = self.enrolled(name);
            let mut problems = problems_of.remove(name).unwrap_or_default();
            let mut reading = Cow::Borrowed(self.machines.get(name).unwrap_or(&nothing));
            if let Some(former) = former(&self.hosts, name) {
                let of_former = problems_of.remove(former).unwrap_or_default();
                let new = of_former
                    .into_iter()
                    .filter(|line| !problems.contains(line));
                let new: Vec<_> = new.collect();
                problems.extend(new);
                if let Some(account) = self.machines.get(former) {
                    reading = Cow::Owned(reading.or_former(account));
                }
            }
            MachineStatus {
                notes: notes_of.remove(name).unwrap_or_default(),
                ..reading.status(name, host, enrolled, problems, now)
            }
        };
        let removed = |(name, removed): (&HostName, &Removed)| RemovedMachine {
            name: name.clone(),
            at: removed.at,
        };
        // A renamed machine is there by its new name.
        let is_gone = |(_, removed): &(&HostName, &Removed)| {
            let mut hosts = self.hosts.values();
            !hosts.any(|host| removed.had_one_of(&host.keys))
        };
        Status {
            removed: self
                .accounts
                .removed()
                .filter(is_gone)
                .map(removed)
                .collect(),
            format: Format,
            at: now,
            hosts: self
                .hosts
                .iter()
                .filter(|(_, host)| host.renamed_to.is_none())
                .map(&mut machine)
                .collect(),
            problems: self
                .problems
                .is_some()
                .then(|| of_fleet.into_iter().map(ToString::to_string).collect()),
        }
    }
}

fn fleet_stamps(state: &State) -> [PathStamp; 2] {
    [state.fleet(), state.accounts()].map(|path| PathStamp::of(&path))
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
        // Not Scope::spawn, which panics if there are no threads left: then this one reads them all.
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

/// Reads the problems of the appliance that runs here; none if there is none.
fn read_problems(path: &Path) -> Option<Vec<Problem>> {
    atomic_file::read_json(path).unwrap_or_else(|error| {
        Some(vec![Problem::new(
            path.display().to_string(),
            format!("the problems of the fleet can't be read: {error}"),
            "run this as the user whose appliance it is",
        )])
    })
}

/// The lines of the problems of each machine.
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

/// A problem for a place that already has the machine's name.
fn without_name(problem: &Problem) -> String {
    Problem {
        host: None,
        ..problem.clone()
    }
    .to_string()
}

#[cfg(test)]
mod tests;
