//! What machines see of each other: folders that more than one of them gets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use bento_protocol::HostName;
use serde::Serialize;

use super::group::groups;
use crate::fleet::{Fleet, SourcePath};
use crate::forecast::Forecast;
use crate::listing::sentence;

/// How many machines are named.
const NAMED: usize = 5;

/// A machine's folder that others get, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// The folder, relative to the fleet folder.
    pub folder: PathBuf,
    /// The machines whose configuration it holds.
    pub owners: BTreeSet<HostName>,
    /// All that get files of it.
    pub machines: BTreeSet<HostName>,
    /// How many files of it; the most that one of them gets.
    pub files: usize,
}

/// Every machine's folder of which more than that machine gets files.
pub fn shared(forecast: &Forecast) -> Vec<Shared> {
    let Some(fleet) = &forecast.fleet else {
        return Vec::new();
    };
    let owners = owners(fleet);
    let mut seen: BTreeMap<&Path, Shared> = BTreeMap::new();
    for group in groups(forecast) {
        let mut counts: BTreeMap<&Path, usize> = BTreeMap::new();
        let mut found: HashMap<Option<&Path>, Option<&Path>> = HashMap::new();
        for file in group.files() {
            let parent = file.real.parent();
            let folder = found
                .entry(parent)
                .or_insert_with(|| innermost(&file.real, &owners));
            if let Some(folder) = folder {
                *counts.entry(folder).or_default() += 1;
            }
        }
        for (folder, files) in counts {
            let entry = seen.entry(folder).or_insert_with(|| Shared {
                folder: folder.to_owned(),
                owners: owners[folder].iter().map(|name| (*name).clone()).collect(),
                machines: BTreeSet::new(),
                files: 0,
            });
            entry
                .machines
                .extend(group.machines.iter().map(|name| (*name).clone()));
            // Those that nobody asked about get it all the same.
            let source_of = |name: &&HostName| fleet.hosts[*name].source.as_path();
            let sharing = owners[folder]
                .iter()
                .filter(|name| source_of(name) == folder);
            entry.machines.extend(sharing.map(|name| (*name).clone()));
            entry.files = entry.files.max(files);
        }
    }
    let is_shared = |one: &Shared| one.machines.len() > 1 || !one.machines.is_subset(&one.owners);
    seen.into_values().filter(is_shared).collect()
}

/// Whose each folder is: that of its source, or of its name.
fn owners(fleet: &Fleet) -> HashMap<PathBuf, Vec<&HostName>> {
    let mut owners: HashMap<PathBuf, Vec<&HostName>> = HashMap::new();
    for (name, host) in &fleet.hosts {
        let own = SourcePath::default_of(name);
        let folders = BTreeSet::from([own.as_path(), host.source.as_path()]);
        for folder in folders {
            owners.entry(folder.to_owned()).or_default().push(name);
        }
    }
    owners
}

/// The innermost of these folders in which a file lies.
fn innermost<'o>(real: &Path, owners: &'o HashMap<PathBuf, Vec<&HostName>>) -> Option<&'o Path> {
    let above = real.ancestors().skip(1);
    let named = above.map(|folder| {
        if folder == Path::new("") {
            Path::new(".")
        } else {
            folder
        }
    });
    let mut known = named.filter_map(|folder| owners.get_key_value(folder));
    known.next().map(|(folder, _)| folder.as_path())
}

impl fmt::Display for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, files) = (self.folder.display(), self.files);
        let files = if files == 1 {
            "1 file".to_owned()
        } else {
            format!("{files} files")
        };
        if self.owners.is_superset(&self.machines) {
            let both = if self.machines.len() == 2 {
                "both"
            } else {
                "all"
            };
            let machines = listed(&self.machines);
            return match self.folder == Path::new(".") {
                true => write!(
                    formatter,
                    "{machines} {both} get {files} of the folder itself"
                ),
                false => write!(formatter, "{machines} {both} get {folder}, {files}"),
            };
        }
        let others: BTreeSet<_> = self.machines.difference(&self.owners).cloned().collect();
        let get = if others.len() == 1 { "gets" } else { "get" };
        write!(
            formatter,
            "{} {get} {files} of {folder}, the folder of {}",
            listed(&others),
            listed(&self.owners)
        )
    }
}

fn listed(names: &BTreeSet<HostName>) -> String {
    let mut words: Vec<String> = names.iter().take(NAMED).map(ToString::to_string).collect();
    if names.len() > NAMED {
        words.push(format!("{} more", names.len() - NAMED));
    }
    sentence(words)
}
