//! The host tree: every file of the fleet folder that one machine gets, before anything of it is read.

mod folder;
mod ignored;
mod index;
mod links;
mod places;
mod refusal;
mod sources;
mod symlink;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bento_protocol::{Area, FilePath, HostName, Symlink};

pub use folder::{FleetFolder, Found, Stamp};
pub use ignored::{BadPattern, Chain, Narrowing, Patterns};
pub use links::real_path;
pub use sources::{Listings, Sources};

use crate::fleet::Host;
use crate::problem::Problem;

/// Where the files for one machine lie that must never enter a Nix store.
pub const SECRETS: &str = "bento-secrets";

/// What Nix begins with: one of the two must be at the top of what a machine gets, and the first one wins.
pub const ENTRIES: [&str; 2] = ["flake.nix", "configuration.nix"];

/// Everything that one machine gets, sorted by path.
///
/// Two are equal if they look the same: the same files, and the same ignore files. When folders changed doesn't count,
/// because an editor's swap file, which is never published, would change them. A clone costs next to nothing.
#[derive(Debug, Clone)]
pub struct HostTree {
    /// What it gets of its source: one for all machines that get the same of it.
    source: Arc<Listing>,
    secrets: Arc<Listing>,
    /// When any of these, or a folder on the way, last changed.
    changed: Option<SystemTime>,
    unseen: Arc<[PathBuf]>,
}

/// What a machine gets of one folder.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listing {
    /// The files, sorted by path.
    files: Vec<TreeFile>,
    /// The ignore files that were followed, in the order of the walk.
    rules: Vec<Rules>,
}

/// An ignore file: where it lies, relative to the fleet folder, and what tells whether it is still the same.
type Rules = (PathBuf, Stamp);

/// A file or a symlink that a machine gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Its path in the generation.
    pub path: FilePath,
    /// Where it really lies: relative to the fleet folder, symlinks on the way resolved.
    pub real: PathBuf,
    /// What tells whether it is still the same.
    pub stamp: Stamp,
    /// The symlink that it stays; none of a file.
    pub symlink: Option<Symlink>,
}

impl HostTree {
    /// Walks a machine's source and its secrets. All that is wrong is found at once.
    pub fn walk(fleet: &FleetFolder, name: &HostName, host: &Host) -> Result<Self, Vec<Problem>> {
        Sources::new(fleet, Listings::default()).walk(name, host)
    }

    /// The files of its configuration.
    pub fn config(&self) -> &[TreeFile] {
        &self.source.files
    }

    /// Its secrets.
    pub fn secrets(&self) -> &[TreeFile] {
        &self.secrets.files
    }

    /// Whether another machine, found in the same look, gets exactly the same.
    pub fn shares_all_with(&self, other: &HostTree) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.secrets == other.secrets
    }

    /// All files, its secrets last.
    pub fn files(&self) -> impl Iterator<Item = &TreeFile> {
        self.source.files.iter().chain(&self.secrets.files)
    }

    /// How many files there are.
    pub fn count(&self) -> usize {
        self.source.files.len() + self.secrets.files.len()
    }

    /// Whether something of it lies at this place, relative to the fleet folder, symlinks resolved.
    pub fn holds(&self, real: &Path) -> bool {
        self.files().any(|file| file.real == real)
    }

    /// When anything of it last changed: a file, an ignore file, or a folder that lost or got one.
    pub fn changed_at(&self) -> Option<SystemTime> {
        self.changed
    }

    /// What a `.gitignore` keeps from it although git may track it, because no index can be seen: the first of it,
    /// relative to the fleet folder.
    pub fn unseen(&self) -> &[PathBuf] {
        &self.unseen
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
        let files = self.files().map(|file| (file.real.as_path(), &file.stamp));
        let rules = self.source.rules.iter().chain(&self.secrets.rules);
        let rules = rules.map(|(path, stamp)| (path.as_path(), stamp));
        files.chain(rules).collect()
    }

    /// Where a path in the configuration leads, symlinks followed; none where it leads nowhere in it.
    pub fn real_config(&self, path: &str) -> Option<String> {
        let files = self.config();
        let target_of = |path: &str| {
            let path = FilePath::new(Area::Config, path).ok()?;
            let place = files.binary_search_by(|file| file.path.cmp(&path)).ok()?;
            Some(files[place].symlink.as_ref()?.target())
        };
        real_path(path, target_of)
    }

    /// The file to which a path in the configuration leads, symlinks followed.
    pub fn config_file(&self, path: &str) -> Option<&TreeFile> {
        let real = FilePath::new(Area::Config, &self.real_config(path)?).ok()?;
        let files = self.config();
        let place = files.binary_search_by(|file| file.path.cmp(&real)).ok()?;
        Some(&files[place])
    }

    /// Whether a path in the configuration leads to a file that the machine gets, symlinks followed.
    fn leads_to_file(&self, path: &str) -> bool {
        let file = self.config_file(path);
        file.is_some_and(|file| file.symlink.is_none())
    }

    /// Whether the machine gets a file or folder at this path of its configuration, symlinks followed.
    pub fn has_config_path(&self, path: &str) -> bool {
        let Some(real) = self.real_config(path) else {
            return false;
        };
        if real.is_empty() {
            return true;
        }
        // The files are sorted: it is one of them, or the first one below it follows its name with a slash.
        let files = self.config();
        let first_from = |path: &str| {
            let index = files.partition_point(|file| file.path.as_str() < path);
            files.get(index).map(|file| file.path.as_str())
        };
        let file = format!("{}/{real}", Area::Config.folder());
        let folder = format!("{file}/");
        first_from(&file) == Some(&file)
            || first_from(&folder).is_some_and(|first| first.starts_with(&folder))
    }

    /// Whether the configuration has a file of this name at its top.
    pub fn has_config(&self, name: &str) -> bool {
        self.config().iter().any(|file| file.path.rest() == name)
    }
}

impl PartialEq for HostTree {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.secrets == other.secrets
    }
}

#[cfg(test)]
mod tests;
