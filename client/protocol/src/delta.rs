use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    FilePath, Format, GenerationId, HostName, Manifest, ManifestEntry, ManifestError, Policy,
};

/// The difference between two generations of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    format: Format,
    /// The machine.
    pub host: HostName,
    /// The generation to which it applies.
    pub from: GenerationId,
    /// The resulting generation.
    pub generation: GenerationId,
    /// When the resulting generation was published, by the appliance's clock.
    pub published: Timestamp,
    /// The policy of the resulting generation.
    pub policy: Policy,
    /// New or changed files and symlinks, sorted bytewise; the archive holds each, in this order.
    pub changed: Vec<ManifestEntry>,
    /// Removed paths, sorted bytewise; they are removed before `changed` is added.
    pub removed: Vec<FilePath>,
}

/// Why a delta doesn't apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// For another machine, or from another generation.
    #[error("the delta is for generation {from} of {host}, which isn't what is here")]
    Base {
        /// The machine that the delta names.
        host: HostName,
        /// The generation that it names.
        from: GenerationId,
    },
    /// It removes a missing path, or a path out of order.
    #[error("the delta removes {0}, which isn't there, or not in order")]
    Removed(FilePath),
    /// The result isn't the generation that it names.
    #[error("the delta names generation {promised}, but results in {computed}")]
    Result {
        /// The generation that the delta names.
        promised: GenerationId,
        /// The generation of the result.
        computed: GenerationId,
    },
    /// The result isn't a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Delta {
    /// The delta between two generations of one machine.
    pub fn between(old: &Manifest, new: &Manifest) -> Self {
        let changed = new
            .files()
            .iter()
            .filter(|file| old.file(file.path()) != Some(file));
        let removed = old
            .files()
            .iter()
            .filter(|file| new.file(file.path()).is_none());
        Delta {
            format: Format,
            host: new.host().clone(),
            from: old.generation(),
            generation: new.generation(),
            published: new.published(),
            policy: new.policy().clone(),
            changed: changed.cloned().collect(),
            removed: removed.map(|file| file.path().clone()).collect(),
        }
    }

    /// Applies the delta to `old`.
    pub fn apply(&self, old: &Manifest) -> Result<Manifest, DeltaError> {
        if (&self.host, self.from) != (old.host(), old.generation()) {
            return Err(DeltaError::Base {
                host: self.host.clone(),
                from: self.from,
            });
        }
        let mut files = Vec::new();
        merge(
            old.files().iter().cloned().map(Ok),
            self.removed.iter().cloned().map(Ok),
            self.changed.iter().cloned().map(Ok),
            &mut |file| {
                files.push(file);
                Ok::<_, DeltaError>(())
            },
        )?;
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

/// Passes each file of a delta's result to `each`, in order. All three lists must be sorted: if `old` is and `changed`
/// isn't, the result isn't either. Their items may be errors, as in lists that are read from a disk.
pub fn merge<E: From<DeltaError>>(
    old: impl Iterator<Item = Result<ManifestEntry, E>>,
    mut removed: impl Iterator<Item = Result<FilePath, E>>,
    mut changed: impl Iterator<Item = Result<ManifestEntry, E>>,
    each: &mut dyn FnMut(ManifestEntry) -> Result<(), E>,
) -> Result<(), E> {
    let mut next_removed = removed.next().transpose()?;
    let mut next_changed = changed.next().transpose()?;
    for file in old {
        let file = file?;
        while let Some(new) = next_changed.take_if(|new| new.path() < file.path()) {
            each(new)?;
            next_changed = changed.next().transpose()?;
        }
        let is_removed = next_removed.as_ref() == Some(file.path());
        if is_removed {
            next_removed = removed.next().transpose()?;
        }
        match next_changed.take_if(|new| new.path() == file.path()) {
            Some(new) => {
                each(new)?;
                next_changed = changed.next().transpose()?;
            }
            None if is_removed => {}
            None => each(file)?,
        }
    }
    if let Some(path) = next_removed {
        return Err(DeltaError::Removed(path).into());
    }
    next_changed
        .map(Ok)
        .into_iter()
        .chain(changed)
        .try_for_each(|new| each(new?))
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
            .map(|file| file.path().as_str())
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
    fn a_delta_with_another_result_is_refused() {
        let old = manifest(&[("config/a", "1"), ("config/b", "1")]);
        let new = manifest(&[("config/a", "2")]);
        let delta = Delta::between(&old, &new);
        assert!(matches!(delta.apply(&new), Err(DeltaError::Base { .. })));
        let mut tampered = delta.clone();
        tampered.changed[0] = crate::manifest::tests::entry("config/a", "-> b");
        assert!(matches!(
            tampered.apply(&old),
            Err(DeltaError::Result { .. })
        ));
        let mut tampered = delta.clone();
        tampered.removed.push("config/z".parse().unwrap());
        assert!(matches!(tampered.apply(&old), Err(DeltaError::Removed(_))));
    }
    #[test]
    fn every_combination_of_lists_has_the_right_result() {
        let paths = ["config/a", "config/b", "secrets/d"];
        // Each path has one content, another, is a symlink, or is missing: before and after. Issue 10, line 3.
        let contents = |path: &str| match path {
            "secrets/d" => ["1", "2", "3"],
            _ => ["1", "2", "-> elsewhere"],
        };
        let all: Vec<Manifest> = (0..64)
            .map(|mixture: usize| {
                let files = paths.iter().enumerate().filter_map(|(place, path)| {
                    contents(path)
                        .get(mixture / 4_usize.pow(place as u32) % 4)
                        .map(|content| (*path, *content))
                });
                manifest(&files.collect::<Vec<_>>())
            })
            .collect();
        for old in &all {
            for new in &all {
                assert_eq!(&Delta::between(old, new).apply(old).unwrap(), new);
            }
        }
    }

    #[test]
    fn a_file_may_be_removed_and_added_again() {
        let old = manifest(&[("config/a", "1"), ("config/b", "1")]);
        let new = manifest(&[("config/a", "2"), ("config/b", "1")]);
        let mut delta = Delta::between(&old, &new);
        delta.removed.push("config/a".parse().unwrap());
        assert_eq!(delta.apply(&old), Ok(new));
        delta.removed.push("config/a".parse().unwrap());
        assert!(matches!(delta.apply(&old), Err(DeltaError::Removed(_))));
    }
}
