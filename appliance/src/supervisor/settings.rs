//! The fleet that is in force: the one in the folder if it can be read, else the last good one.

use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use crate::durable;
use crate::fleet::{self, FILE_NAME, Fleet, PublicKey};
use crate::problem::Problem;
use crate::state::State;
use crate::tree::{FleetFolder, Stamp};

use super::settle::Settling;

/// The largest `fleet.toml` in bytes: about 50,000 machines.
const MAX_BYTES: u64 = 16 << 20;

/// Follows `fleet.toml`.
#[derive(Debug)]
pub(super) struct Settings {
    /// The last good fleet; survives a restart.
    pub(super) fleet: Option<Fleet>,
    /// What is wrong with the file, or with single machines in it.
    pub(super) problems: Vec<Problem>,
    settling: Settling<Stamp>,
    read: Option<Stamp>,
}

/// The host keys with which the appliance may run, as the fleet in the folder says, or else the last good one.
pub(super) fn host_keys(config: &Path, state: &State) -> io::Result<Vec<PublicKey>> {
    let written = std::fs::read_to_string(config.join(FILE_NAME)).ok();
    let fleet = match written.and_then(|text| fleet::read(&text).ok()) {
        Some(reading) => Some(reading.fleet),
        None => durable::read_json::<Fleet>(&state.fleet())?,
    };
    Ok(fleet
        .map(|fleet| fleet.server.host_keys)
        .unwrap_or_default())
}

impl Settings {
    /// Begins with the last good fleet that the state holds.
    pub(super) fn new(state: &State) -> io::Result<Self> {
        let fleet = durable::read_json(&state.fleet())?;
        Ok(Settings {
            fleet,
            problems: Vec::new(),
            settling: Settling::default(),
            read: None,
        })
    }

    /// Reads the file if it has changed and settled. True if it must be looked at again soon.
    pub(super) fn refresh(
        &mut self,
        folder: io::Result<&FleetFolder>,
        state: &State,
        now: Instant,
    ) -> io::Result<bool> {
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
            Err((place, error)) => {
                self.refuse(&place, &error);
                return Ok(false);
            }
        };
        let stamp = Stamp::of(&found.stat);
        if self.read == Some(stamp) {
            return Ok(false);
        }
        if !self.settling.is_settled(&stamp, stamp.changed_at(), now) {
            return Ok(true);
        }
        let mut text = String::new();
        match folder
            .read(&found.real)
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        {
            Ok(_) => self.accept(&text, state)?,
            Err(error) => self.refuse(FILE_NAME, &error),
        }
        self.read = Some(stamp);
        Ok(false)
    }

    fn refuse(&mut self, place: &str, error: &io::Error) {
        let place = if place.is_empty() {
            "the fleet folder"
        } else {
            place
        };
        let advice =
            "mount the fleet folder at /config, readable for the user who runs the appliance";
        self.problems = vec![Problem::new(
            place,
            format!("can't be read: {error}"),
            advice,
        )];
        self.read = None;
    }

    /// Takes over what can be used of a file.
    fn accept(&mut self, text: &str, state: &State) -> io::Result<()> {
        let mut reading = match fleet::read(text) {
            Ok(reading) => reading,
            Err(problems) => {
                self.problems = problems;
                return Ok(());
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
        self.problems = reading.problems;
        if self.fleet.as_ref() != Some(&reading.fleet) {
            durable::write_json(&state.fleet(), &reading.fleet)?;
            self.fleet = Some(reading.fleet);
        }
        Ok(())
    }
}
