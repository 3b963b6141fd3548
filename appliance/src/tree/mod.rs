//! The host tree: every file of the fleet folder that one machine gets, before anything of it is read.

mod folder;
mod ignored;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bento_protocol::{Area, FilePath, HostName};
use rustix::fs::FileType;

pub use folder::{FleetFolder, Found, Stamp};
pub use ignored::{BadPattern, Chain, Narrowing, is_never_published};

use crate::fleet::Host;
use crate::problem::Problem;

/// Where the files for one machine lie that must never enter a Nix store.
pub const SECRETS: &str = "bento-secrets";

/// Everything that one machine gets, sorted by path.
///
/// Two are equal if they look the same: the same files, and the same ignore files. When folders changed doesn't count,
/// because an editor's swap file, which is never published, would change them.
#[derive(Debug, Clone)]
pub struct HostTree {
    /// The files.
    pub files: Vec<TreeFile>,
    /// The ignore files that were followed, in the order of the walk.
    rules: Vec<Rules>,
    /// When any of these, or a folder on the way, last changed.
    changed: Option<SystemTime>,
}

/// An ignore file: where it lies, relative to the fleet folder, and what tells whether it is still the same.
type Rules = (PathBuf, Stamp);

/// A file that a machine gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Its path in the generation.
    pub path: FilePath,
    /// Where it really lies: relative to the fleet folder, symlinks resolved.
    pub real: PathBuf,
    /// What tells whether it is still the same.
    pub stamp: Stamp,
}

impl HostTree {
    /// Walks a machine's source and its secrets. All that is wrong is found at once.
    pub fn walk(fleet: &FleetFolder, name: &HostName, host: &Host) -> Result<Self, Vec<Problem>> {
        Sources::default().walk(fleet, name, host)
    }

    /// When anything of it last changed: a file, an ignore file, or a folder that lost or got one.
    pub fn changed_at(&self) -> Option<SystemTime> {
        self.changed
    }

    /// A file that is only in one of them, or changed from one to the other: where it really lies, relative to the
    /// fleet folder.
    pub fn difference(&self, other: &HostTree) -> Option<PathBuf> {
        let (mine, others) = (self.stamps(), other.stamps());
        let differs = |(path, stamp): &(&&Path, &&Stamp), in_other: &BTreeMap<&Path, &Stamp>| {
            in_other.get(**path) != Some(stamp)
        };
        let changed = mine.iter().find(|entry| differs(entry, &others));
        let changed = changed.or_else(|| others.iter().find(|entry| differs(entry, &mine)));
        changed.map(|(path, _)| path.to_path_buf())
    }

    /// Every file that counts, by where it really lies.
    fn stamps(&self) -> BTreeMap<&Path, &Stamp> {
        let files = self
            .files
            .iter()
            .map(|file| (file.real.as_path(), &file.stamp));
        let rules = self
            .rules
            .iter()
            .map(|(path, stamp)| (path.as_path(), stamp));
        files.chain(rules).collect()
    }

    /// Whether the configuration has a file of this name at its top.
    pub fn has_config(&self, name: &str) -> bool {
        self.files
            .iter()
            .any(|file| file.path.area() == Area::Config && file.path.rest() == name)
    }
}

impl PartialEq for HostTree {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.rules == other.rules
    }
}

/// The sources that were walked in one look at a fleet: machines that get the same of the same folder share one walk.
#[derive(Debug, Default)]
pub struct Sources(HashMap<Part, walk::Everything>);

/// A folder of the fleet, and the patterns that narrow what a machine gets of it.
type Part = (PathBuf, Vec<String>, Vec<String>);

impl Sources {
    /// As [`HostTree::walk`], without walking again what was walked for another machine.
    pub fn walk(
        &mut self,
        fleet: &FleetFolder,
        name: &HostName,
        host: &Host,
    ) -> Result<HostTree, Vec<Problem>> {
        let part = (
            host.source.as_path().to_owned(),
            host.exclude.clone(),
            host.include.clone(),
        );
        let source = self
            .0
            .entry(part)
            .or_insert_with(|| walk::source(fleet, host));
        let secrets = PathBuf::from(SECRETS).join(name.as_str());
        walk::with_secrets(fleet, source.clone(), &secrets).map_err(|problems| {
            problems
                .into_iter()
                .map(|problem| problem.of(name))
                .collect()
        })
    }
}

fn file_type(stat: &rustix::fs::Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests;
