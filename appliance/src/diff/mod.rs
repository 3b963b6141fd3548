//! What has changed for each machine since the generation that it runs.
//!
//! [`Changes::between`] is the pure core; [`Diffs::read`] finds what it needs in a state; [`rendering`] shows it
//! to a person, and [`packages`] asks Nix what that came to. The document is what `bento diff --json` prints: the machine
//! that shows it may be another one than the appliance.

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

/// What has changed for each machine: the document that `bento diff --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diffs {
    /// The version of this document.
    pub format: Format,
    /// The machines, by name.
    pub hosts: Vec<HostDiff>,
    /// What the files hold that they name, by digest: once, however many machines have the same.
    pub contents: BTreeMap<Digest, FileContent>,
}

/// What has changed for one machine. What isn't known is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostDiff {
    /// The machine.
    pub name: HostName,
    /// What it runs, as far as its reports tell.
    pub runs: Option<InstalledGeneration>,
    /// What it finds when it polls.
    pub published: Option<PublishedGeneration>,
    /// Whether it reported anything.
    pub reported: bool,
    /// Whether any report was one of a success.
    pub succeeded: bool,
    /// The system that it ran when it reported last.
    pub running: Option<SystemPath>,
    /// What `bento build` made of the published generation.
    pub expected_system: Option<SystemPath>,
    /// What is different; none where one of the two isn't known, or nothing is left of it.
    pub changes: Option<Changes>,
}

/// A generation that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedGeneration {
    /// Its id.
    pub generation: GenerationId,
    /// Since when it is published.
    pub at: Timestamp,
}

/// A generation that a machine installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledGeneration {
    /// Its id.
    pub generation: GenerationId,
    /// When the report came that says so.
    pub at: Timestamp,
    /// Whether the machine ran what it had built from it then. If not, it was to take effect at the next boot, or was
    /// replaced by hand.
    pub ran: bool,
    /// Whether the machine ran another system when it reported last.
    pub left: bool,
}

/// What is different between two generations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Settings of `fleet.toml` that the machine must know, by name.
    pub settings: Vec<SettingChange>,
    /// Files, sorted by path.
    pub files: Vec<FileChange>,
}

/// A setting that is different; none where it is the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// As in `fleet.toml`.
    pub name: String,
    /// What it was.
    pub before: Option<Value>,
    /// What it is.
    pub after: Option<Value>,
}

/// A file that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Where it lies.
    pub path: FilePath,
    /// What it was; none if there was none.
    pub before: Option<Side>,
    /// What it is; none if there is none any more.
    pub after: Option<Side>,
}

/// What a file or symlink was, or is. Of a secret neither length nor digest is told: by them a short one can be guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Whether it can be executed.
    pub executable: bool,
    /// What it holds; none of a secret and of a symlink.
    #[serde(flatten)]
    pub content: Option<Checksum>,
    /// The target of a symlink; none of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink: Option<String>,
}

/// How what a file holds is told apart from anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// In bytes.
    pub size: u64,
    /// The digest.
    pub sha256: Digest,
}

impl Changes {
    /// What is different in `new` from `old`.
    pub fn between(old: &Manifest, new: &Manifest) -> Self {
        let paths: BTreeSet<&FilePath> = [old, new]
            .iter()
            .flat_map(|manifest| manifest.files())
            .map(ManifestEntry::path)
            .collect();
        // While secrets can still be told apart.
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
