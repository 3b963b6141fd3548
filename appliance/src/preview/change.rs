//! The changes from the published generations to a preview.

use std::collections::BTreeMap;

use bento_protocol::{Delta, FilePath, Format, GenerationId, HostName, Manifest, ManifestEntry};
use serde::{Deserialize, Serialize};

use crate::publication::Publications;
use crate::store::paths::State;

/// The published generations of an appliance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishedGenerations {
    /// The version of this document.
    pub format: Format,
    /// The generation of each machine that has one.
    pub generations: BTreeMap<HostName, GenerationId>,
    /// The manifests of the requested machines.
    pub manifests: Vec<Manifest>,
}

/// The changes of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetChanges {
    /// The changes of each machine with another generation.
    pub machines: Vec<HostChange>,
    /// The published machines that are no longer in the fleet.
    pub gone: Vec<HostName>,
}

/// The changes of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostChange {
    /// The machine.
    pub machine: HostName,
    /// The published generation, if any.
    pub from: Option<GenerationId>,
    /// The new generation.
    pub to: GenerationId,
    /// New files.
    pub added: Vec<FilePath>,
    /// Changed files.
    pub changed: Vec<FilePath>,
    /// Removed files.
    pub removed: Vec<FilePath>,
    /// The size of the published generation in bytes.
    pub before: u64,
    /// Whether its settings in `fleet.toml` changed, as far as its client gets them.
    pub settings: bool,
}

impl PublishedGenerations {
    /// Reads them from a state, with the manifests of the named machines.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn read(state: &State, names: &[HostName]) -> std::io::Result<Self> {
        let mut published = PublishedGenerations {
            format: Format,
            generations: BTreeMap::new(),
            manifests: Vec::new(),
        };
        for entry in std::fs::read_dir(state.hosts())? {
            let name: Option<HostName> = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(name) = name else { continue };
            let host = state.host(&name);
            let publications = Publications::of(&host);
            if let Some(current) = publications.published()? {
                published
                    .generations
                    .insert(name.clone(), current.generation);
            }
            if names.contains(&name) {
                published.manifests.extend(publications.manifest()?);
            }
        }
        Ok(published)
    }
}

impl HostChange {
    /// The changes from the old manifest, if any, to the new one.
    pub fn between(old: Option<&Manifest>, new: &Manifest) -> Self {
        let path = |entry: &ManifestEntry| entry.path().clone();
        let mut change = HostChange {
            machine: new.host().clone(),
            from: old.map(Manifest::generation),
            to: new.generation(),
            added: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            before: old.map_or(0, |old| old.files().iter().map(ManifestEntry::size).sum()),
            settings: old.is_some_and(|old| old.policy() != new.policy()),
        };
        match old {
            None => change.added = new.files().iter().map(path).collect(),
            Some(old) => {
                let delta = Delta::between(old, new);
                (change.changed, change.added) = delta
                    .changed
                    .iter()
                    .map(path)
                    .partition(|path| old.file(path).is_some());
                change.removed = delta.removed;
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use bento_protocol::{Digest, File, Policy};
    use jiff::Timestamp;

    use super::*;

    fn manifest(files: &[(&str, u8)]) -> Manifest {
        let file = |(path, content): &(&str, u8)| File {
            path: path.parse().unwrap(),
            executable: false,
            size: 1,
            sha256: format!("{content:064x}").parse::<Digest>().unwrap(),
        };
        let files: Vec<_> = files.iter().map(file).collect();
        let host = "kikimora".parse().unwrap();
        Manifest::new(host, Policy::default(), files, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn added_removed_and_changed_files_are_distinguished() {
        let old = manifest(&[("config/a", 1), ("config/b", 1), ("config/c", 1)]);
        let new = manifest(&[("config/b", 2), ("config/c", 1), ("config/d", 1)]);
        let change = HostChange::between(Some(&old), &new);
        let paths = |paths: &[FilePath]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(paths(&change.added), ["config/d"]);
        assert_eq!(paths(&change.changed), ["config/b"]);
        assert_eq!(paths(&change.removed), ["config/a"]);
        assert!(!change.settings);
        assert_eq!(HostChange::between(None, &new).added.len(), 3);
    }
}
