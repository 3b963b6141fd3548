//! What would be published for each machine, if the fleet folder stayed as it is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use bento_protocol::{HostName, Manifest};
use jiff::Timestamp;

use crate::fleet::{self, FILE_NAME, Fleet, Host};
use crate::generation::{self, DigestCache, ReadError};
use crate::problem::Problem;
use crate::tree::{FleetFolder, HostTree, Sources};

/// What would become of a fleet.
#[derive(Debug)]
pub struct Forecast {
    /// The fleet folder, held open.
    pub folder: FleetFolder,
    /// The fleet; none where `fleet.toml` as a whole can't be used.
    pub fleet: Option<Fleet>,
    /// What would be published for each machine that was asked for; none where a problem stops it.
    pub machines: BTreeMap<HostName, Option<Prospect>>,
    /// The machines that `fleet.toml` names, but whose settings can't be used.
    pub faulty: Vec<HostName>,
    /// What is wrong with them, and with the fleet as a whole.
    pub problems: Vec<Problem>,
}

/// What would be published for one machine.
#[derive(Debug)]
pub struct Prospect {
    /// Where its files lie.
    pub tree: HostTree,
    /// What they are; `published` is the time of the look.
    pub manifest: Manifest,
}

impl Forecast {
    /// Looks at a fleet folder, for these machines only or for all if none is named.
    ///
    /// # Errors
    /// When there is no fleet, or no machine of a given name. What is wrong with the fleet is no error but a problem.
    pub fn make(folder: &Path, names: &[HostName]) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} can't be read", path.display()))?;
        let opened = FleetFolder::open(folder)
            .with_context(|| format!("{} can't be read", folder.display()))?;
        let mut forecast = Forecast {
            folder: opened,
            fleet: None,
            machines: BTreeMap::new(),
            faulty: Vec::new(),
            problems: Vec::new(),
        };
        let reading = match fleet::read(&text) {
            Ok(reading) => reading,
            Err(problems) => {
                forecast.problems = problems;
                return Ok(forecast);
            }
        };
        let hosts = &reading.fleet.hosts;
        let is_known =
            |name: &&HostName| hosts.contains_key(*name) || reading.faulty.contains(*name);
        if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
            bail!("the fleet has no machine {unknown}: `bento host list` shows which there are");
        }
        let is_asked = |name: &HostName| names.is_empty() || names.contains(name);
        let problems = reading.problems.into_iter();
        forecast.problems = problems
            .filter(|problem| problem.host.as_ref().is_none_or(is_asked))
            .collect();
        let (mut sources, mut digests) = (Sources::default(), DigestCache::default());
        for (name, host) in hosts.iter().filter(|(name, _)| is_asked(name)) {
            let tree = sources.walk(&forecast.folder, name, host);
            let prospect = tree
                .and_then(|tree| Prospect::of(tree, &forecast.folder, name, host, &mut digests))
                .map_err(|problems| forecast.problems.extend(problems));
            forecast.machines.insert(name.clone(), prospect.ok());
        }
        forecast.fleet = Some(reading.fleet);
        forecast.faulty = reading.faulty;
        Ok(forecast)
    }
}

impl Forecast {
    /// Whether the fleet names a machine, be it with settings that can't be used.
    pub fn has(&self, name: &HostName) -> bool {
        let fleet = self.fleet.as_ref();
        fleet.is_some_and(|fleet| fleet.hosts.contains_key(name)) || self.faulty.contains(name)
    }
}

impl Prospect {
    fn of(
        tree: HostTree,
        folder: &FleetFolder,
        name: &HostName,
        host: &Host,
        digests: &mut DigestCache,
    ) -> Result<Self, Vec<Problem>> {
        let manifest = generation::manifest(name, host, &tree, folder, digests, Timestamp::now());
        let manifest = manifest.and_then(|manifest| {
            generation::require_size(&manifest, host)?;
            Ok(manifest)
        });
        let manifest = manifest.map_err(|error| match error {
            ReadError::Unreadable(problem) => vec![problem.of(name)],
            ReadError::Changed | ReadError::Output(_) => {
                let place = host.source.to_string();
                let advice = "wait until nobody writes there, and try again";
                vec![Problem::new(place, "changed while it was read", advice).of(name)]
            }
        })?;
        Ok(Prospect { tree, manifest })
    }
}
