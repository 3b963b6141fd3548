//! `bento diff`: the changes for each machine since the generation that it runs.
//!
//! [`Changes::between`] is the pure core; [`Diffs::read`] reads its input from a state; [`rendering`] prints it for
//! people, and [`packages`] asks Nix for the changed packages. `bento diff --json` prints the document, because the
//! machine that shows it may be another one than the appliance.

mod content;
mod grouping;
pub mod packages;
mod reading;
pub mod rendering;

use std::collections::{BTreeMap, BTreeSet};

use bento_protocol::{
    Area, Digest, FilePath, Format, GenerationId, HostName, Manifest, ManifestEntry, SystemPath,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use content::{FileContent, FileContents};

/// The document of `bento diff --json`: the changes for each machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diffs {
    /// The version of this document.
    pub format: Format,
    /// The machines, by name.
    pub hosts: Vec<HostDiff>,
    /// The contents of the changed files, by digest.
    pub contents: BTreeMap<Digest, FileContent>,
}

/// The changes for one machine. Unknown values are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostDiff {
    /// The machine.
    pub name: HostName,
    /// The generation that it runs, by its reports.
    pub runs: Option<InstalledGeneration>,
    /// The published generation.
    pub published: Option<PublishedGeneration>,
    /// Whether it reported anything.
    pub reported: bool,
    /// Whether it has reported a success.
    pub succeeded: bool,
    /// The running system in its last report.
    pub running: Option<SystemPath>,
    /// The system that `bento build` built from the published generation.
    pub expected_system: Option<SystemPath>,
    /// The changes; none if one of the generations is unknown or not kept any more.
    pub changes: Option<Changes>,
}

/// A generation that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedGeneration {
    /// Its id.
    pub generation: GenerationId,
    /// The time of its publication.
    pub at: Timestamp,
}

/// A generation that a machine installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledGeneration {
    /// Its id.
    pub generation: GenerationId,
    /// The time of receipt of the report.
    pub at: Timestamp,
    /// Whether the machine ran the system that it built from it. If not, it needed a reboot, or was replaced by hand.
    pub ran: bool,
    /// Whether the last report names another running system.
    pub left: bool,
}

/// The changes between two generations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Changed settings of `fleet.toml` that the machine gets.
    pub settings: Vec<SettingChange>,
    /// Changed files, sorted by path.
    pub files: Vec<FileChange>,
}

/// A changed setting; a default value is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Its name in `fleet.toml`.
    pub name: String,
    /// The old value.
    pub before: Option<Value>,
    /// The new value.
    pub after: Option<Value>,
}

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path.
    pub path: FilePath,
    /// The old file, if it existed.
    pub before: Option<Side>,
    /// The new file, if it exists.
    pub after: Option<Side>,
}

/// The old or new side of a file or symlink. A secret has neither size nor digest, by which a short one could be
/// guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Whether it is executable.
    pub executable: bool,
    /// The checksum of its contents; none for a secret and for a symlink.
    #[serde(flatten)]
    pub content: Option<Checksum>,
    /// The target, if it is a symlink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink: Option<String>,
}

/// The size and digest of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// In bytes.
    pub size: u64,
    /// The digest.
    pub sha256: Digest,
}

impl Changes {
    /// The changes from `old` to `new`.
    pub fn between(old: &Manifest, new: &Manifest) -> Self {
        let paths: BTreeSet<&FilePath> = [old, new]
            .iter()
            .flat_map(|manifest| manifest.files())
            .map(ManifestEntry::path)
            .collect();
        // Compares full entries, because a `Side` of a secret has no digest.
        let changed = paths
            .into_iter()
            .filter(|path| old.file(path) != new.file(path));
        let changes = changed.map(|path| FileChange {
            path: path.clone(),
            before: old.file(path).map(Side::of),
            after: new.file(path).map(Side::of),
        });
        Changes {
            settings: settings(old, new),
            files: changes.collect(),
        }
    }
}

fn settings(old: &Manifest, new: &Manifest) -> Vec<SettingChange> {
    let [old, new] =
        [old, new].map(|manifest| BTreeMap::<String, Value>::from(manifest.policy().clone()));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes = names.into_iter().map(|name| SettingChange {
        name: name.clone(),
        before: old.get(name).cloned(),
        after: new.get(name).cloned(),
    });
    changes
        .filter(|setting| setting.before != setting.after)
        .collect()
}

impl Side {
    fn of(entry: &ManifestEntry) -> Self {
        match entry {
            ManifestEntry::File(file) => Side {
                executable: file.executable,
                content: (file.path.area() == Area::Config).then_some(Checksum {
                    size: file.size,
                    sha256: file.sha256,
                }),
                symlink: None,
            },
            ManifestEntry::Symlink(link) => Side {
                executable: false,
                content: None,
                symlink: Some(link.target().to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests;
