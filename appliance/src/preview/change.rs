//! What becomes different for a machine, from the generation that is published to the one that would be.

use std::collections::BTreeMap;

use bento_protocol::{Delta, FilePath, Format, GenerationId, HostName, Manifest, ManifestEntry};
use serde::{Deserialize, Serialize};

use crate::publication::Publications;
use crate::store::paths::State;

/// What an appliance publishes now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishedGenerations {
    /// The version of this document.
    pub format: Format,
    /// The generation of each machine for which there is one.
    pub generations: BTreeMap<HostName, GenerationId>,
    /// The manifests of the machines that were named.
    pub manifests: Vec<Manifest>,
}

/// What becomes different for a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetChanges {
    /// For each machine that would find something else than now.
    pub machines: Vec<HostChange>,
    /// The machines for which something is published, and that the fleet doesn't name any more.
    pub gone: Vec<HostName>,
}

/// What becomes different for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostChange {
    /// The machine.
    pub machine: HostName,
    /// What it finds now; none if nothing was ever published for it.
    pub from: Option<GenerationId>,
    /// What it would find.
    pub to: GenerationId,
    /// Files that are new for it.
    pub added: Vec<FilePath>,
    /// Files that are different.
    pub changed: Vec<FilePath>,
    /// Files that are gone.
    pub removed: Vec<FilePath>,
    /// How many bytes it finds now.
    pub before: u64,
    /// Whether its settings in `fleet.toml` are different, as far as its client must know them.
    pub settings: bool,
}

impl PublishedGenerations {
    /// What a state holds; manifests are read only of the machines that are named.
    ///
    /// # Errors
    /// When it can't be read.
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
    /// From the old manifest, if there is one, to the new one.
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
    fn what_comes_what_goes_and_what_differs_is_told_apart() {
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
