use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bento_protocol::{self as protocol, Area, FilePath, GenerationId, Manifest};

use crate::durable;
use crate::state::State;

/// A generation while it is assembled: two folders aside, one for configuration and one for secrets, which nothing
/// but the client reads. They go when this is dropped before they came to be in place.
#[derive(Debug)]
pub struct Partial {
    generation: PathBuf,
    secrets: PathBuf,
}

impl Partial {
    /// What is added to a generation's name while it is assembled.
    pub(crate) const SUFFIX: &'static str = ".partial";

    /// Makes two empty folders, in place of any that a run before left behind.
    pub(crate) fn new(state: &State, id: &GenerationId) -> anyhow::Result<Self> {
        let partial = Partial {
            generation: with_suffix(&state.generation(id)),
            secrets: with_suffix(&state.secrets_of(id)),
        };
        let make = || {
            for folder in [&partial.generation, &partial.secrets] {
                durable::remove_folder_if_there(folder)?;
                DirBuilder::new().mode(0o700).create(folder)?;
            }
            fs::create_dir(partial.folder(Area::Config))
        };
        make()
            .with_context(|| format!("can't make the folder {}", partial.generation.display()))?;
        Ok(partial)
    }

    fn folder(&self, area: Area) -> PathBuf {
        match area {
            Area::Config => self.generation.join(area.folder()),
            Area::Secrets => self.secrets.clone(),
        }
    }

    pub(crate) fn path(&self, path: &FilePath) -> PathBuf {
        self.folder(path.area()).join(path.rest())
    }

    /// Opens a new file of the generation for writing.
    pub(crate) fn create(&self, file: &protocol::File) -> anyhow::Result<File> {
        let path = self.path(&file.path);
        let create = || {
            make_folder_of(&path)?;
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            created.set_permissions(Permissions::from_mode(mode(file)))?;
            Ok::<_, std::io::Error>(created)
        };
        create().with_context(|| format!("can't write {}", path.display()))
    }

    /// Takes a file over from another generation, whose content and permissions were checked.
    pub(crate) fn link(&self, file: &protocol::File, from: &Path) -> anyhow::Result<()> {
        let path = self.path(&file.path);
        make_folder_of(&path)
            .and_then(|()| fs::hard_link(from, &path))
            .with_context(|| format!("can't link {} to {}", from.display(), path.display()))
    }

    /// Gives all folders the same permissions and the same time on every machine, waits until the disk has
    /// everything, and puts the generation in place. The secrets come first: a generation that is in place is whole.
    pub(crate) fn put_in_place(self, state: &State, manifest: &Manifest) -> anyhow::Result<()> {
        let id = manifest.generation();
        let finish = || {
            let json = serde_json::to_vec(manifest)?;
            let path = self.generation.join(protocol::chroot::MANIFEST_ENTRY);
            fs::write(&path, json)?;
            settle(&path, 0o644)?;
            let folders: BTreeSet<&str> = manifest
                .files()
                .iter()
                .flat_map(|file| file.path.folders())
                .collect();
            for folder in folders {
                // The areas' own folders have no name below their area.
                if let Some((area, rest)) = split(folder) {
                    settle(&self.folder(area).join(rest), folder_mode(area))?;
                }
            }
            settle(&self.folder(Area::Config), 0o755)?;
            settle(&self.generation, 0o755)?;
            // One call in place of an fsync for each file and folder: those of 5,000 files take minutes on a slow
            // disk.
            rustix::fs::syncfs(File::open(&self.generation)?)?;
            anyhow::Ok(())
        };
        finish().with_context(|| format!("can't finish {}", self.generation.display()))?;
        // Those of a run that was cut short between the two renames: the generation isn't in place, so nothing
        // uses them.
        durable::remove_folder_if_there(&state.secrets_of(&id))
            .with_context(|| format!("can't remove {}", state.secrets_of(&id).display()))?;
        durable::rename(&self.secrets, &state.secrets_of(&id))?;
        durable::rename(&self.generation, &state.generation(&id))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What stays behind here is removed before the next pull.
        let _ = durable::remove_folder_if_there(&self.generation);
        let _ = durable::remove_folder_if_there(&self.secrets);
    }
}

/// The permissions of a file on the client: normalised, because Nix sees whether a file is executable.
pub(crate) fn mode(file: &protocol::File) -> u32 {
    match (file.path.area(), file.executable) {
        (Area::Config, false) => 0o644,
        (Area::Config, true) => 0o755,
        (Area::Secrets, false) => 0o600,
        (Area::Secrets, true) => 0o700,
    }
}

fn folder_mode(area: Area) -> u32 {
    match area {
        Area::Config => 0o755,
        Area::Secrets => 0o700,
    }
}

/// The time of modification of everything that Nix may look at: the same on every machine, at any time.
pub(crate) fn the_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1)
}

/// Gives a file or a folder its permissions, and [`the_time`].
pub(crate) fn settle(path: &Path, mode: u32) -> std::io::Result<()> {
    let file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_modified(the_time())
}

fn make_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.is_dir() => fs::create_dir_all(parent),
        _ => Ok(()),
    }
}

fn split(folder: &str) -> Option<(Area, &str)> {
    let (name, rest) = folder.split_once('/')?;
    let area = [Area::Config, Area::Secrets]
        .into_iter()
        .find(|area| area.folder() == name)?;
    Some((area, rest))
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(Partial::SUFFIX);
    name.into()
}
