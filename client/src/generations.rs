//! The generations that are staged on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use bento_protocol::{Area, Digest, FilePath, GenerationId, Manifest, Policy, chroot};

use crate::durable;
use crate::state::State;

/// A generation whose files are in place.
#[derive(Debug, Clone)]
pub struct Staged {
    /// What it consists of.
    pub manifest: Manifest,
    /// The folder that Nix builds.
    pub config: PathBuf,
}

impl Staged {
    /// Which generation it is.
    pub fn id(&self) -> GenerationId {
        self.manifest.generation()
    }

    /// Its secrets and their content.
    pub fn secrets(&self) -> anyhow::Result<BTreeMap<FilePath, Digest>> {
        let files = self.manifest.files().iter();
        let secrets = files.filter(|file| file.path.area() == Area::Secrets);
        Ok(secrets
            .map(|file| (file.path.clone(), file.sha256))
            .collect())
    }

    /// What the fleet says about its use.
    pub fn policy(&self) -> &Policy {
        self.manifest.policy()
    }
}

/// The generation with this id, if it is in place. Only its manifest is read.
pub(crate) fn find(state: &State, id: &GenerationId) -> anyhow::Result<Option<Staged>> {
    let folder = state.generation(id);
    let path = folder.join(chroot::MANIFEST_ENTRY);
    let Some(json) = durable::read_if_there(&path)? else {
        return Ok(None);
    };
    let parse = || {
        let manifest: Manifest = serde_json::from_slice(&json)?;
        ensure!(
            manifest.generation() == *id,
            "it is generation {}",
            manifest.generation()
        );
        Ok(manifest)
    };
    let manifest = parse().with_context(|| format!("{} is damaged", path.display()))?;
    Ok(Some(Staged {
        manifest,
        config: folder.join("config"),
    }))
}

/// The staged generation that was published last, other than `than`: the one from which a delta is likely smallest.
pub(crate) fn newest_other(state: &State, than: &GenerationId) -> Option<Staged> {
    let ids = ids(state)
        .unwrap_or_default()
        .into_iter()
        .filter(|id| id != than);
    // A damaged one can't be a base; it goes with the next removal.
    let staged = ids.filter_map(|id| find(state, &id).ok().flatten());
    staged.max_by_key(|staged| staged.manifest.published())
}

fn ids(state: &State) -> anyhow::Result<Vec<GenerationId>> {
    let folder = state.generations_folder();
    let entries =
        fs::read_dir(&folder).with_context(|| format!("can't list {}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// Removes every generation but these, with its secrets, and what runs that were cut short left behind.
pub(crate) fn remove_all_but(state: &State, keep: &[GenerationId]) -> anyhow::Result<()> {
    for folder in [state.generations_folder(), state.secrets_folder()] {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("can't list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("can't list {}", folder.display()))?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            let is_kept = id.is_some_and(|id| keep.contains(&id));
            // A file in there is somebody else's.
            if !is_kept && entry.path().is_dir() {
                durable::remove_folder_if_there(&entry.path())
                    .with_context(|| format!("can't remove {}", entry.path().display()))?;
            }
        }
    }
    Ok(())
}
