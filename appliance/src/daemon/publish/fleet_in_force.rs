//! The fleet in force: that of the last readable `fleet.toml`.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use crate::fleet::{self, FILE_NAME, Fleet, PublicKey};
use crate::problem::Problem;
use crate::scan::{FleetFolder, Stamp};
use crate::store::atomic_file;
use crate::store::paths::State;

use super::debounce::{Since, StableSince, age, keeps_changing};

/// The largest `fleet.toml` in bytes: about 50,000 machines.
const MAX_BYTES: u64 = 16 << 20;

/// The place of a problem with the folder itself.
const FOLDER: &str = "the fleet folder";

/// The last good fleet, and the debounce of `fleet.toml`.
#[derive(Debug)]
pub(super) struct FleetInForce {
    /// The last good fleet; it survives a restart.
    pub(super) fleet: Option<Fleet>,
    /// The problems of the file, and of single machines in it.
    pub(super) problems: Vec<Problem>,
    debounce: StableSince<Stamp>,
    unstable: Since,
    missing: Since,
    /// The file that was read last.
    read: Option<Stamp>,
    /// Whether the state doesn't hold this fleet yet.
    unsaved: bool,
}

/// The host keys with which the appliance may run, by the fleet in the folder, or else by the last good one.
pub(crate) fn host_keys(config: &Path, state: &State) -> io::Result<Vec<PublicKey>> {
    let written = FleetFolder::open(config)
        .and_then(|folder| folder.text(Path::new(FILE_NAME), MAX_BYTES, true));
    let fleet = match written.ok().and_then(|(text, _)| fleet::read(&text).ok()) {
        Some(reading) => Some(reading.fleet),
        None => atomic_file::read_json::<Fleet>(&state.fleet())?,
    };
    Ok(fleet
        .map(|fleet| fleet.server.host_keys)
        .unwrap_or_default())
}

/// The debounce that a file itself asks for, which holds for it while no fleet is in force. Half of a file may lack it,
/// and then waits longer.
fn debounce_of(text: io::Result<Option<String>>) -> Duration {
    let reading = text.ok().flatten().and_then(|text| fleet::read(&text).ok());
    let publish = reading.map(|reading| reading.fleet.publish);
    publish.unwrap_or_default().debounce.duration()
}

impl FleetInForce {
    /// Begins with the last good fleet that the state holds.
    pub(super) fn new(state: &State) -> io::Result<Self> {
        let fleet = atomic_file::read_json(&state.fleet())?;
        Ok(FleetInForce {
            fleet,
            problems: Vec::new(),
            debounce: StableSince::default(),
            unstable: Since::default(),
            missing: Since::default(),
            read: None,
            unsaved: false,
        })
    }

    /// The debounce of the fleet in force.
    pub(super) fn debounce(&self) -> Duration {
        let publish = self.fleet.as_ref().map(|fleet| fleet.publish.clone());
        publish.unwrap_or_default().debounce.duration()
    }

    /// Writes the fleet to the state. It is in force before: a machine that is removed while the disk is full loses its
    /// access, too.
    pub(super) fn save(&mut self, state: &State) -> io::Result<()> {
        if let Some(fleet) = self.fleet.as_ref().filter(|_| self.unsaved) {
            atomic_file::write_json(&state.fleet(), fleet)?;
            self.unsaved = false;
        }
        Ok(())
    }

    /// Reads the file if it has changed and is stable. True if it must be checked again soon.
    pub(super) fn refresh(&mut self, folder: &io::Result<FleetFolder>, now: Instant) -> bool {
        let folder = match folder {
            Ok(folder) => folder,
            Err(error) => return self.not_found(FOLDER, error, false, now),
        };
        let found = match folder.find(Path::new(FILE_NAME)) {
            Ok(found) => found,
            Err(error) => return self.not_found(FILE_NAME, &error, folder.is_removed(), now),
        };
        self.missing = Since::default();
        let stamp = Stamp::of(&found.stat);
        if self.read == Some(stamp) {
            return false;
        }
        let age = age(stamp.changed_at(), SystemTime::now());
        let debounce = match &self.fleet {
            Some(_) => self.debounce(),
            None => debounce_of(folder.text_of(&found, MAX_BYTES)),
        };
        if !self.debounce.is_stable(&stamp, age, now, now, debounce) {
            return self.wait(now);
        }
        match folder.text_of(&found, MAX_BYTES) {
            Ok(Some(text)) => {
                self.accept(&text);
                self.unstable = Since::default();
                self.read = Some(stamp);
                false
            }
            // Half of a file can be a whole one with fewer machines.
            Ok(None) => self.wait(now),
            Err(error) => {
                self.refuse(FILE_NAME, &error, false);
                false
            }
        }
    }

    /// Waits while the file may only be in replacement: git, and many an editor, remove a file before they write it again.
    fn not_found(
        &mut self,
        place: &str,
        error: &io::Error,
        is_removed: bool,
        now: Instant,
    ) -> bool {
        let is_missing = error.kind() == io::ErrorKind::NotFound && !is_removed;
        let debounce = self.debounce();
        let missing = self.missing.update(is_missing, now);
        if missing.is_some_and(|missing| missing < debounce) {
            return true;
        }
        self.refuse(place, error, is_removed);
        false
    }

    /// Waits while the file is being changed. If that takes too long, it is a problem.
    fn wait(&mut self, now: Instant) -> bool {
        let problem = keeps_changing(FILE_NAME);
        if self.unstable.is_overdue(true, now) && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
        true
    }

    fn refuse(&mut self, place: &str, error: &io::Error, is_removed: bool) {
        let problem = if is_removed {
            Problem::new(
                FOLDER,
                "can't be read: it was removed from the host, or replaced by another one, while the appliance ran",
                "restart the container: it sees only the folder that was there when it started",
            )
        } else {
            let leaves = error.raw_os_error() == Some(Errno::XDEV.raw_os_error());
            let (what, advice) = if leaves {
                (
                    "it is a symlink that leaves the fleet folder".to_owned(),
                    "replace it by the file itself",
                )
            } else {
                (
                    error.to_string(),
                    "mount the fleet folder at /config, readable for the user who runs the appliance",
                )
            };
            Problem::new(place, format!("can't be read: {what}"), advice)
        };
        self.problems = vec![problem];
        self.unstable = Since::default();
        self.read = None;
    }

    /// Takes over the usable part of a file.
    fn accept(&mut self, text: &str) {
        let mut reading = match fleet::read(text) {
            Ok(reading) => reading,
            Err(problems) => {
                self.problems = problems;
                return;
            }
        };
        // A mistyped name or table isn't meant to remove a machine: as long as the file has a problem, machines that it
        // doesn't (legibly) name keep their last good settings.
        if let Some(last) = self.fleet.as_ref().filter(|_| !reading.problems.is_empty()) {
            for (name, host) in &last.hosts {
                reading
                    .fleet
                    .hosts
                    .entry(name.clone())
                    .or_insert_with(|| host.clone());
            }
        }
        reading.fleet = reading.fleet.with_former_names();
        self.problems = reading.problems;
        if self.fleet.as_ref() != Some(&reading.fleet) {
            self.fleet = Some(reading.fleet);
            self.unsaved = true;
        }
    }
}

#[cfg(test)]
mod tests;
