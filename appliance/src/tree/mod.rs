//! The host tree: every file of the fleet folder that one machine gets, before anything of it is read.

mod folder;
mod ignored;
mod walk;

use std::path::PathBuf;
use std::time::SystemTime;

use bento_protocol::{Area, FilePath, HostName};
use rustix::fs::FileType;

pub use folder::{FleetFolder, Stamp};

use crate::fleet::Host;
use crate::problem::Problem;

/// Where the files for one machine lie that must never enter a Nix store.
pub const SECRETS: &str = "bento-secrets";

/// Everything that one machine gets, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTree {
    /// The files.
    pub files: Vec<TreeFile>,
}

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
        let mut walk = walk::Walk::new(fleet, host);
        walk.source(host.source.as_path());
        if walk.found_nothing() {
            walk.add_problem(
                host.source.as_path(),
                "holds nothing to publish",
                "put a flake.nix or a configuration.nix there",
            );
        }
        walk.secrets(&PathBuf::from(SECRETS).join(name.as_str()));
        walk.finish().map_err(|problems| {
            problems
                .into_iter()
                .map(|problem| problem.of(name))
                .collect()
        })
    }

    /// When any of its files last changed.
    pub fn changed_at(&self) -> Option<SystemTime> {
        self.files
            .iter()
            .filter_map(|file| file.stamp.changed_at())
            .max()
    }

    /// Whether the configuration has a file of this name at its top.
    pub fn has_config(&self, name: &str) -> bool {
        self.files
            .iter()
            .any(|file| file.path.area() == Area::Config && file.path.rest() == name)
    }
}

fn file_type(stat: &rustix::fs::Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests;
