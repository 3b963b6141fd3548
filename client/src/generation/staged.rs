//! The generations that are staged on this machine.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use bento_protocol::stream::Head;
use bento_protocol::{Area, File, GenerationHasher, GenerationId, ManifestEntry, Policy};
use jiff::Timestamp;

use crate::generation::list;
use crate::state::State;
use crate::state::atomic_file;

/// In a generation's folder: what its manifest says beside its files.
pub(crate) const HEAD: &str = "head.json";
/// In a generation's folder: the list of its files.
pub(crate) const FILES: &str = "files";

/// A generation whose files are in place.
#[derive(Debug, Clone)]
pub struct Staged {
    head: Head,
    /// The list of its files.
    files: PathBuf,
    /// The folder that Nix builds.
    pub config: PathBuf,
}

impl Staged {
    /// The generation that was put in place with this head.
    pub(crate) fn new(state: &State, head: Head) -> Self {
        let folder = state.generation(&head.generation);
        Staged {
            head,
            files: folder.join(FILES),
            config: folder.join(Area::Config.folder()),
        }
    }

    /// Its head: everything but its files.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Which generation it is.
    pub fn id(&self) -> GenerationId {
        self.head.generation
    }

    /// The fleet's policy for it.
    pub fn policy(&self) -> &Policy {
        &self.head.policy
    }

    /// When it was published, by the appliance's clock.
    pub fn published(&self) -> Timestamp {
        self.head.published
    }

    /// Its files and symlinks, sorted, read one by one.
    pub(crate) fn files(
        &self,
    ) -> anyhow::Result<impl Iterator<Item = anyhow::Result<ManifestEntry>> + use<>> {
        list::read(&self.files)
    }

    /// Its secrets, sorted, read one by one.
    pub(crate) fn secrets(
        &self,
    ) -> anyhow::Result<impl Iterator<Item = anyhow::Result<File>> + use<>> {
        // There are no symlinks among them.
        Ok(self.files()?.filter_map(|entry| match entry {
            Ok(ManifestEntry::File(file)) if file.path.area() == Area::Secrets => Some(Ok(file)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    /// The id that its head and its list give.
    fn computed(&self) -> anyhow::Result<GenerationId> {
        let mut hasher = GenerationHasher::new(&self.head.host, &self.head.policy);
        for file in self.files()? {
            hasher.add(&file?)?;
        }
        Ok(hasher.id())
    }
}

/// The policy of a generation, if that is in place. Nothing else of it is read.
pub(crate) fn policy(state: &State, id: &GenerationId) -> anyhow::Result<Option<Policy>> {
    let path = state.generation(id).join(HEAD);
    let Some(json) = atomic_file::read_if_there(&path)? else {
        return Ok(None);
    };
    let head: Head =
        serde_json::from_slice(&json).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(Some(head.policy))
}

/// The generation with this id, if it is in place. Only its head and its list are read.
pub(crate) fn find(state: &State, id: &GenerationId) -> anyhow::Result<Option<Staged>> {
    let path = state.generation(id).join(HEAD);
    let Some(json) = atomic_file::read_if_there(&path)? else {
        return Ok(None);
    };
    let check = || {
        let head: Head = serde_json::from_slice(&json)?;
        ensure!(head.generation == *id, "it is {}", head.generation);
        let staged = Staged::new(state, head);
        let computed = staged.computed()?;
        ensure!(computed == *id, "with its list it is {computed}");
        Ok(staged)
    };
    let staged = check().with_context(|| format!("{} is damaged", path.display()))?;
    Ok(Some(staged))
}

/// The staged generation that was published last, other than `than`: the one from which a delta is likely smallest.
pub(crate) fn newest_other(state: &State, than: &GenerationId) -> Option<Staged> {
    let ids = ids(state)
        .unwrap_or_default()
        .into_iter()
        .filter(|id| id != than);
    // A damaged one can't be a base; it goes with the next removal.
    let staged = ids.filter_map(|id| find(state, &id).ok().flatten());
    staged.max_by_key(Staged::published)
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
                atomic_file::remove_folder_if_there(&entry.path())
                    .with_context(|| format!("can't remove {}", entry.path().display()))?;
            }
        }
    }
    Ok(())
}
