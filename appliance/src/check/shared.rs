//! Shared files: files and folders of one machine, by their name or as its source, that another machine gets, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use bento_protocol::HostName;
use serde::Serialize;

use super::group::{Group, called, groups, names_of};
use crate::fleet::Fleet;
use crate::preview::Preview;
use crate::text::list::sentence;

/// The most machines or places that are listed.
const NAMED: usize = 5;

/// A file or a folder of one or several machines that others get, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedPlace {
    /// The path, relative to the fleet folder.
    pub place: PathBuf,
    /// The machines with that name or source.
    pub owners: BTreeSet<HostName>,
    /// All machines that get a part of it.
    pub machines: BTreeSet<HostName>,
    /// The number of its files; the most that one of them gets.
    pub files: usize,
}

/// The shared places. A place is a machine's if a part of its path is the machine's name or attribute, or begins with
/// that and a dot.
pub fn shared(preview: &Preview) -> Vec<SharedPlace> {
    let Some(fleet) = &preview.fleet else {
        return Vec::new();
    };
    let owners = Owners::of(fleet);
    let mut found: BTreeMap<PathBuf, SharedPlace> = BTreeMap::new();
    for group in groups(preview) {
        for (place, files) in owners.places(&group) {
            let owners = owners.of_place(&place);
            let entry = found.entry(place.clone()).or_insert_with(|| SharedPlace {
                place,
                owners: owners.iter().map(|name| (*name).clone()).collect(),
                machines: BTreeSet::new(),
                files: 0,
            });
            entry
                .machines
                .extend(group.machines.iter().map(|name| (*name).clone()));
            entry.files = entry.files.max(files);
        }
    }
    for shared in found.values_mut() {
        // Machines outside of the preview get it, too.
        let is_source_of = |name: &&HostName| fleet.hosts[*name].source.as_path() == shared.place;
        let sharing = fleet.hosts.keys().filter(is_source_of);
        shared.machines.extend(sharing.cloned());
    }
    let is_shared =
        |one: &SharedPlace| one.machines.len() > 1 || !one.machines.is_subset(&one.owners);
    found.into_values().filter(is_shared).collect()
}

/// The owners of places.
struct Owners<'a> {
    named: HashMap<&'a str, Vec<&'a HostName>>,
    sources: HashMap<&'a Path, Vec<&'a HostName>>,
}

impl<'a> Owners<'a> {
    fn of(fleet: &'a Fleet) -> Self {
        let mut owners = Owners {
            named: HashMap::new(),
            sources: HashMap::new(),
        };
        for (name, host) in &fleet.hosts {
            for called in BTreeSet::from(names_of(name, host)) {
                owners.named.entry(called).or_default().push(name);
            }
            let source = host.source.as_path();
            if source != Path::new(".") {
                owners.sources.entry(source).or_default().push(name);
            }
        }
        owners
    }

    /// The places with files of a group, each with the number of files.
    fn places(&self, group: &Group<'_>) -> BTreeMap<PathBuf, usize> {
        let mut counts = BTreeMap::new();
        for place in group.files().filter_map(|file| self.place(&file.real)) {
            *counts.entry(place).or_default() += 1;
        }
        counts
    }

    /// The place of a file: the outermost folder with a machine's name, or else the source.
    fn place(&self, real: &Path) -> Option<PathBuf> {
        let mut place = PathBuf::new();
        for part in real {
            place.push(part);
            if called(Path::new(part)).any(|name| self.named.contains_key(name)) {
                return Some(place);
            }
        }
        let mut above = real.ancestors().skip(1);
        above
            .find(|folder| self.sources.contains_key(folder))
            .map(Path::to_owned)
    }

    fn of_place(&self, place: &Path) -> Vec<&'a HostName> {
        let last = place.file_name().map(Path::new).unwrap_or(place);
        let named = called(last)
            .filter_map(|name| self.named.get(name))
            .flatten();
        let sources = self.sources.get(place).into_iter().flatten();
        named.chain(sources).copied().collect()
    }
}

/// The shared places in words: one line for all places of the same machines.
pub fn lines(shared: &[SharedPlace]) -> Vec<String> {
    let mut groups: Vec<(&BTreeSet<HostName>, Vec<&SharedPlace>)> = Vec::new();
    for one in shared {
        match groups
            .iter_mut()
            .find(|(machines, _)| *machines == &one.machines)
        {
            Some((_, places)) => places.push(one),
            None => groups.push((&one.machines, vec![one])),
        }
    }
    groups
        .into_iter()
        .map(|(machines, places)| line(machines, &places))
        .collect()
}

fn line(machines: &BTreeSet<HostName>, shared: &[&SharedPlace]) -> String {
    let places = listed(shared.iter().map(|one| one.place.display()));
    if let [one] = shared {
        let others: Vec<_> = machines.difference(&one.owners).collect();
        let files = match one.files {
            1 => String::new(),
            files => format!(", {files} files"),
        };
        return match others.len() {
            0 => format!(
                "{} {} get {places}{files}",
                listed(machines.iter()),
                all(machines.len())
            ),
            1 => format!(
                "{} gets {places}{files}, which is {}'s",
                others[0],
                listed(one.owners.iter())
            ),
            _ => format!(
                "{} get {places}{files}, which is {}'s",
                listed(others.into_iter()),
                listed(one.owners.iter())
            ),
        };
    }
    match machines.len() {
        1 => format!(
            "{} gets {places}, which are others'",
            listed(machines.iter())
        ),
        count => format!(
            "{} {} get {places}, each of which is one machine's",
            listed(machines.iter()),
            all(count)
        ),
    }
}

fn all(count: usize) -> &'static str {
    if count == 2 { "both" } else { "all" }
}

fn listed(names: impl ExactSizeIterator<Item: ToString>) -> String {
    let count = names.len();
    let mut words: Vec<String> = names.take(NAMED).map(|name| name.to_string()).collect();
    if count > NAMED {
        words.push(format!("{} more", count - NAMED));
    }
    sentence(words)
}
