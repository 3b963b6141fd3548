//! What the appliance takes, and what fails all the same once it is published, or surprises: the warnings of
//! `bento check`. One module for each kind.
//!
//! Machines that share a folder and what they get of it are looked at once: a thousand of them cost as much as one.

mod checkout;
mod dangling;
mod fleet_nix;
mod lock;
mod nix;
mod readable;
mod references;
mod shared;
mod tracked;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use bento_protocol::HostName;

use crate::fleet::{Host, SourcePath};
use crate::forecast::Forecast;
use crate::problem::Problem;
use crate::tree::{HostTree, TreeFile};
pub use shared::{Shared, shared};

/// Machines that get the same of the same folder.
#[derive(Debug)]
struct Group<'a> {
    source: &'a SourcePath,
    /// Whether include or exclude narrow what they get.
    narrowed: bool,
    /// Whether any of them has a key, and so builds what it gets.
    enrolled: bool,
    machines: Vec<&'a HostName>,
    /// The first one's: its configuration is that of all.
    tree: &'a HostTree,
}

impl Group<'_> {
    /// The files of their configuration.
    fn files(&self) -> impl Iterator<Item = &TreeFile> {
        self.tree.config().iter()
    }

    /// A file of their configuration, by a path that leads to it.
    fn file(&self, path: &str) -> Option<&TreeFile> {
        self.tree.config_file(path)
    }
}

/// The relative paths that a Nix file names.
pub(crate) fn named_paths(text: &str) -> Vec<String> {
    let references = nix::references(text).into_iter();
    references.map(|reference| reference.path).collect()
}

/// What will fail once it is published, or surprise: sorted, each once. `folder` is the fleet folder of the forecast.
pub fn warnings(folder: &Path, forecast: &Forecast) -> Vec<Problem> {
    let groups = groups(forecast);
    let mut warnings = BTreeSet::new();
    warnings.extend(references::leading_out(forecast, &groups));
    warnings.extend(dangling::narrowed_away(forecast, &groups));
    warnings.extend(lock::unfit(forecast, &groups));
    warnings.extend(tracked::untracked(folder, &groups));
    warnings.extend(checkout::unseen(folder, &groups));
    warnings.extend(readable::unreadable(folder, forecast));
    warnings.extend(fleet_nix::unknown(forecast));
    warnings.into_iter().collect()
}

fn groups(forecast: &Forecast) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known: HashMap<(PathBuf, &[String], &[String]), usize> = HashMap::new();
    let hosts = forecast.fleet.iter().flat_map(|fleet| &fleet.hosts);
    for (name, host) in hosts {
        let Some(Some(prospect)) = forecast.machines.get(name) else {
            continue;
        };
        let Host {
            source,
            include,
            exclude,
            keys,
            ..
        } = host;
        let place = (source.as_path().to_owned(), &include[..], &exclude[..]);
        let index = *known.entry(place).or_insert(groups.len());
        if index == groups.len() {
            groups.push(Group {
                source,
                narrowed: !include.is_empty() || !exclude.is_empty(),
                enrolled: false,
                machines: Vec::new(),
                tree: &prospect.tree,
            });
        }
        groups[index].machines.push(name);
        groups[index].enrolled |= !keys.is_empty();
    }
    groups
}

/// A path below a folder without `.` and `..`; none if it leads out of the folder.
fn resolved(folder: &Path, path: &str) -> Option<PathBuf> {
    let mut resolved = folder.to_owned();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if !resolved.pop() {
                    return None;
                }
            }
            name => resolved.push(name),
        }
    }
    Some(resolved)
}

#[cfg(test)]
mod tests;
