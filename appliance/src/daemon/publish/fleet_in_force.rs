//! The fleet that is in force: the one in the folder if it can be read, else the last good one.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use crate::fleet::{self, FILE_NAME, Fleet, PublicKey};
use crate::problem::Problem;
use crate::scan::{FleetFolder, Stamp};
use crate::store::atomic_file;
use crate::store::paths::State;

use super::debounce::{Delay, Settling, age, restless};

/// The largest `fleet.toml` in bytes: about 50,000 machines.
const MAX_BYTES: u64 = 16 << 20;

/// What the fleet folder is called where it isn't a file in it that is wrong.
const FOLDER: &str = "the fleet folder";

/// Follows `fleet.toml`.
#[derive(Debug)]
pub(super) struct Settings {
    /// The last good fleet; survives a restart.
    pub(super) fleet: Option<Fleet>,
    /// What is wrong with the file, or with single machines in it.
    pub(super) problems: Vec<Problem>,
    settling: Settling<Stamp>,
    unrest: Delay,
    /// Since when the file hasn't been there.
    missing: Option<Instant>,
    read: Option<Stamp>,
    /// The state doesn't hold this fleet yet.
    unsaved: bool,
}

/// The host keys with which the appliance may run, as the fleet in the folder says, or else the last good one.
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
    publish.unwrap_or_default().debounce.as_duration()
}

impl Settings {
    /// Begins with the last good fleet that the state holds.
    pub(super) fn new(state: &State) -> io::Result<Self> {
        let fleet = atomic_file::read_json(&state.fleet())?;
        Ok(Settings {
            fleet,
            problems: Vec::new(),
            settling: Settling::default(),
            unrest: Delay::default(),
            missing: None,
            read: None,
            unsaved: false,
        })
    }

    /// How long nothing may change before it counts as stable, by the fleet in force.
    pub(super) fn debounce(&self) -> Duration {
        let publish = self.fleet.as_ref().map(|fleet| fleet.publish.clone());
        publish.unwrap_or_default().debounce.as_duration()
    }

    /// Keeps the fleet in the state. It is in force before: whoever is removed while the disk is full is to be out.
    pub(super) fn save(&mut self, state: &State) -> io::Result<()> {
        if let Some(fleet) = self.fleet.as_ref().filter(|_| self.unsaved) {
            atomic_file::write_json(&state.fleet(), fleet)?;
            self.unsaved = false;
        }
        Ok(())
    }

    /// Reads the file if it has changed and settled. True if it must be looked at again soon.
    pub(super) fn refresh(&mut self, folder: io::Result<&FleetFolder>, now: Instant) -> bool {
        let is_removed = folder.as_ref().is_ok_and(|folder| folder.is_removed());
        let found = folder
            .map_err(|error| (String::new(), error))
            .and_then(|folder| {
                let found = folder
                    .find(Path::new(FILE_NAME))
                    .map_err(|error| (FILE_NAME.to_owned(), error))?;
                Ok((folder, found))
            });
        let (folder, found) = match found {
            Ok(found) => found,
            Err((_, error)) if self.may_be_replaced(&error, is_removed, now) => return true,
            Err((place, error)) => {
                self.refuse(&place, &error, is_removed);
                return false;
            }
        };
        self.missing = None;
        let stamp = Stamp::of(&found.stat);
        if self.read == Some(stamp) {
            return false;
        }
        let age = age(stamp.changed_at(), SystemTime::now());
        let debounce = match &self.fleet {
            Some(_) => self.debounce(),
            None => debounce_of(folder.text_of(&found, MAX_BYTES)),
        };
        if !self.settling.is_settled(&stamp, age, now, now, debounce) {
            self.wait(now);
            return true;
        }
        match folder.text_of(&found, MAX_BYTES) {
            Ok(Some(text)) => {
                self.accept(&text);
                self.unrest = Delay::default();
                self.read = Some(stamp);
                false
            }
            // Half of a file can be a whole one with fewer machines.
            Ok(None) => {
                self.wait(now);
                true
            }
            Err(error) => {
                self.refuse(FILE_NAME, &error, false);
                false
            }
        }
    }

    /// Whether the file is missing only since a scan ago: git, and many an editor, remove a file before they write it
    /// anew.
    fn may_be_replaced(&mut self, error: &io::Error, is_removed: bool, now: Instant) -> bool {
        let is_missing = error.kind() == io::ErrorKind::NotFound && !is_removed;
        self.missing = is_missing.then(|| self.missing.unwrap_or(now));
        self.missing
            .is_some_and(|since| now.duration_since(since) < self.debounce())
    }

    /// It is being changed: told when that takes too long.
    fn wait(&mut self, now: Instant) {
        let problem = restless(FILE_NAME);
        if self.unrest.is_too_long(true, now) && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn refuse(&mut self, place: &str, error: &io::Error, is_removed: bool) {
        let problem = if is_removed {
            Problem::new(
                FOLDER,
                "can't be read: it was removed from the host, or replaced by another one, while the appliance ran",
                "restart the container: it sees only the folder that was there when it started",
            )
        } else {
            let place = if place.is_empty() { FOLDER } else { place };
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
        self.unrest = Delay::default();
        self.read = None;
    }

    /// Takes over what can be used of a file.
    fn accept(&mut self, text: &str) {
        let mut reading = match fleet::read(text) {
            Ok(reading) => reading,
            Err(problems) => {
                self.problems = problems;
                return;
            }
        };
        // Whoever mistypes a machine's name or table doesn't mean to remove that machine: as long as there is
        // anything wrong with the file, machines that it doesn't (legibly) name keep their last good settings.
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
