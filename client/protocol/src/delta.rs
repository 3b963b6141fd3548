use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{File, FilePath, Format, GenerationId, HostName, Manifest, ManifestError, Policy};

/// What leads from one generation of a machine to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    format: Format,
    /// The machine for which it is.
    pub host: HostName,
    /// The generation to which it applies.
    pub from: GenerationId,
    /// The generation that comes out.
    pub generation: GenerationId,
    /// When that one was published, by the appliance's clock.
    pub published: Timestamp,
    /// The policy of that one.
    pub policy: Policy,
    /// Files that are new or differ, sorted bytewise; the archive carries the content of each, in this order.
    pub changed: Vec<File>,
    /// Files that are no longer there; they go before the changed ones come.
    pub removed: Vec<FilePath>,
}

/// Why a delta doesn't apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// For another machine, or from another generation.
    #[error("the delta leads from generation {from} of {host}, which isn't what is here")]
    Base {
        /// The machine that the delta names.
        host: HostName,
        /// The generation that it names.
        from: GenerationId,
    },
    /// It removes what isn't there.
    #[error("the delta removes {0}, which isn't there")]
    Removed(FilePath),
    /// What comes out isn't what it promises.
    #[error("the delta promises generation {promised}, but gives {computed}")]
    Result {
        /// What the delta says.
        promised: GenerationId,
        /// What came out.
        computed: GenerationId,
    },
    /// What comes out isn't a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Delta {
    /// The delta between two generations of one machine.
    pub fn between(old: &Manifest, new: &Manifest) -> Self {
        let changed = new
            .files()
            .iter()
            .filter(|file| old.file(&file.path) != Some(file));
        let removed = old
            .files()
            .iter()
            .filter(|file| new.file(&file.path).is_none());
        Delta {
            format: Format,
            host: new.host().clone(),
            from: old.generation(),
            generation: new.generation(),
            published: new.published(),
            policy: new.policy().clone(),
            changed: changed.cloned().collect(),
            removed: removed.map(|file| file.path.clone()).collect(),
        }
    }

    /// The manifest to which it leads from `old`.
    pub fn apply(&self, old: &Manifest) -> Result<Manifest, DeltaError> {
        if (&self.host, self.from) != (old.host(), old.generation()) {
            return Err(DeltaError::Base {
                host: self.host.clone(),
                from: self.from,
            });
        }
        let mut files: BTreeMap<&FilePath, &File> =
            old.files().iter().map(|file| (&file.path, file)).collect();
        for path in &self.removed {
            files
                .remove(path)
                .ok_or_else(|| DeltaError::Removed(path.clone()))?;
        }
        files.extend(self.changed.iter().map(|file| (&file.path, file)));
        let files = files.into_values().cloned().collect();
        let new = Manifest::new(
            self.host.clone(),
            self.policy.clone(),
            files,
            self.published,
        )?;
        if new.generation() != self.generation {
            return Err(DeltaError::Result {
                promised: self.generation,
                computed: new.generation(),
            });
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::manifest;

    #[test]
    fn a_delta_leads_from_one_manifest_to_the_other() {
        let old = manifest(&[("config/a", "1"), ("config/b", "1"), ("config/c", "1")]);
        let new = manifest(&[("config/a/x", "1"), ("config/b", "2"), ("config/c", "1")]);
        let delta = Delta::between(&old, &new);
        let changed: Vec<_> = delta
            .changed
            .iter()
            .map(|file| file.path.as_str())
            .collect();
        assert_eq!(changed, ["config/a/x", "config/b"]);
        assert_eq!(delta.removed, ["config/a".parse().unwrap()]);
        let json = serde_json::to_string(&delta).unwrap();
        assert_eq!(
            serde_json::from_str::<Delta>(&json)
                .unwrap()
                .apply(&old)
                .unwrap(),
            new
        );
    }

    #[test]
    fn a_delta_that_gives_something_else_is_refused() {
        let old = manifest(&[("config/a", "1"), ("config/b", "1")]);
        let new = manifest(&[("config/a", "2")]);
        let delta = Delta::between(&old, &new);
        assert!(matches!(delta.apply(&new), Err(DeltaError::Base { .. })));
        let mut tampered = delta.clone();
        tampered.changed[0].executable = true;
        assert!(matches!(
            tampered.apply(&old),
            Err(DeltaError::Result { .. })
        ));
        let mut tampered = delta.clone();
        tampered.removed.push("config/z".parse().unwrap());
        assert!(matches!(tampered.apply(&old), Err(DeltaError::Removed(_))));
    }
}
