//! The host tree: every file of the fleet folder that one machine gets, before its content is read.

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

/// The folder of files that must never enter a Nix store, with a folder for each machine.
pub const SECRETS: &str = "bento-secrets";

/// The entry points for Nix: one must be at the top of a machine's files, and the first one takes precedence.
pub const ENTRIES: [&str; 2] = ["flake.nix", "configuration.nix"];

/// Everything that one machine gets, sorted by path.
///
/// Two are equal if they have the same files and the same ignore files. The times of folders don't count, because an
/// editor's swap file, which is never published, changes them. A clone is cheap.
#[derive(Debug, Clone)]
pub struct HostTree {
    /// The files of its source, shared by all machines that get the same.
    source: Arc<Listing>,
    secrets: Arc<Listing>,
    /// The time of the last change of any of these, or of a folder above them.
    changed: Option<SystemTime>,
    unseen: Arc<[PathBuf]>,
}

/// The files that a machine gets of one folder.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listing {
    /// The files, sorted by path.
    files: Vec<TreeFile>,
    /// The ignore files that applied, in the order of the walk.
    rules: Vec<Rules>,
}

/// The path of an ignore file, relative to the fleet folder, and its stamp.
type Rules = (PathBuf, Stamp);

/// A file or a symlink that a machine gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Its path in the generation.
    pub path: FilePath,
    /// Its real path: relative to the fleet folder, with symlinks above it resolved.
    pub real: PathBuf,
    /// Its stamp.
    pub stamp: Stamp,
    /// The published symlink; none for a file.
    pub symlink: Option<Symlink>,
}

impl HostTree {
    /// Walks a machine's source and its secrets. All problems are reported at once.
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

    /// Whether another machine of the same scan gets exactly the same.
    pub fn shares_all_with(&self, other: &HostTree) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.secrets == other.secrets
    }

    /// All files, its secrets last.
    pub fn files(&self) -> impl Iterator<Item = &TreeFile> {
        self.source.files.iter().chain(&self.secrets.files)
    }

    /// The number of files.
    pub fn count(&self) -> usize {
        self.source.files.len() + self.secrets.files.len()
    }

    /// Whether one of its files has this real path, relative to the fleet folder.
    pub fn holds(&self, real: &Path) -> bool {
        self.files().any(|file| file.real == real)
    }

    /// The time of the last change of a file, an ignore file, or a folder.
    pub fn changed_at(&self) -> Option<SystemTime> {
        self.changed
    }

    /// Files that a `.gitignore` excludes although git may track them, because no index is visible: the first ones,
    /// relative to the fleet folder.
    pub fn unseen(&self) -> &[PathBuf] {
        &self.unseen
    }

    /// A file that is only in one of the trees, or differs: its real path, relative to the fleet folder.
    pub fn difference(&self, other: &HostTree) -> Option<PathBuf> {
        let (mine, others) = (self.stamps(), other.stamps());
        let differs = |(path, stamp): &(&&Path, &&Stamp), in_other: &BTreeMap<&Path, &Stamp>| {
            in_other.get(**path) != Some(stamp)
        };
        let changed = mine.iter().find(|entry| differs(entry, &others));
        let changed = changed.or_else(|| others.iter().find(|entry| differs(entry, &mine)));
        changed.map(|(path, _)| path.to_path_buf())
    }

    /// The stamps of all files and ignore files, by their real paths.
    fn stamps(&self) -> BTreeMap<&Path, &Stamp> {
        let files = self.files().map(|file| (file.real.as_path(), &file.stamp));
        let rules = self.source.rules.iter().chain(&self.secrets.rules);
        let rules = rules.map(|(path, stamp)| (path.as_path(), stamp));
        files.chain(rules).collect()
    }

    /// A path in the configuration with all symlinks resolved; none if it leads out of it.
    pub fn real_config(&self, path: &str) -> Option<String> {
        let files = self.config();
        let target_of = |path: &str| {
            let path = FilePath::new(Area::Config, path).ok()?;
            let place = files.binary_search_by(|file| file.path.cmp(&path)).ok()?;
            Some(files[place].symlink.as_ref()?.target())
        };
        real_path(path, target_of)
    }

    /// The file at a path in the configuration, after following symlinks.
    pub fn config_file(&self, path: &str) -> Option<&TreeFile> {
        let real = FilePath::new(Area::Config, &self.real_config(path)?).ok()?;
        let files = self.config();
        let place = files.binary_search_by(|file| file.path.cmp(&real)).ok()?;
        Some(&files[place])
    }

    /// Whether the machine gets a file at a path in the configuration, after following symlinks.
    fn leads_to_file(&self, path: &str) -> bool {
        let file = self.config_file(path);
        file.is_some_and(|file| file.symlink.is_none())
    }

    /// Whether the machine gets a file or folder at a path in the configuration, after following symlinks.
    pub fn has_config_path(&self, path: &str) -> bool {
        let Some(real) = self.real_config(path) else {
            return false;
        };
        if real.is_empty() {
            return true;
        }
        // The files are sorted: the path is one of them, or the next one begins with it and a slash.
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
