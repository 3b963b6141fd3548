use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bento_nix::normal::{self, normalize};
use bento_protocol::stream::Head;
use bento_protocol::{self as protocol, Area, FilePath, GenerationId, ManifestEntry, Symlink};

use crate::generation::staged::{FILES, HEAD};
use crate::generation::{folders, list};
use crate::state::State;
use crate::state::atomic_file;

/// A generation while it is assembled: two folders aside, one for configuration and one for secrets, which nothing
/// but the client reads. They go when this is dropped before they came to be in place.
#[derive(Debug)]
pub struct Partial {
    generation: PathBuf,
    secrets: PathBuf,
}

impl Partial {
    /// The suffix of a generation's name while it is assembled.
    pub(crate) const SUFFIX: &'static str = ".partial";

    /// Makes two empty folders, in place of any that a run before left behind.
    pub(crate) fn new(state: &State, id: &GenerationId) -> anyhow::Result<Self> {
        let partial = Partial {
            generation: with_suffix(&state.generation(id)),
            secrets: with_suffix(&state.secrets_of(id)),
        };
        let make = || {
            for folder in [&partial.generation, &partial.secrets] {
                atomic_file::remove_folder_if_there(folder)?;
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

    /// Makes a symlink of the generation. Its target stays inside `config/`, whatever else lies there.
    pub(crate) fn symlink(&self, link: &Symlink) -> anyhow::Result<()> {
        let path = self.path(link.path());
        make_folder_of(&path)
            .and_then(|()| symlink(link.target(), &path))
            .and_then(|()| normal::normalize_link(&path))
            .with_context(|| format!("can't make the symlink {}", path.display()))
    }

    /// Takes a file over from another generation, whose content and permissions were checked.
    pub(crate) fn link(&self, file: &protocol::File, from: &Path) -> anyhow::Result<()> {
        let path = self.path(&file.path);
        make_folder_of(&path)
            .and_then(|()| fs::hard_link(from, &path))
            .with_context(|| format!("can't link {} to {}", from.display(), path.display()))
    }

    /// The list of all files.
    pub(crate) fn files(&self) -> PathBuf {
        self.generation.join(FILES)
    }

    /// The list of the files that the archive carried.
    pub(crate) fn carried(&self) -> PathBuf {
        self.generation.join("carried")
    }

    /// The list of the paths that a delta removed.
    pub(crate) fn removed(&self) -> PathBuf {
        self.generation.join("removed")
    }

    /// The files and symlinks that the archive didn't carry.
    pub(crate) fn missing(
        &self,
    ) -> anyhow::Result<impl Iterator<Item = anyhow::Result<ManifestEntry>> + use<>> {
        let mut carried = list::read::<ManifestEntry>(&self.carried())?;
        let mut next = carried.next().transpose()?;
        let files = list::read::<ManifestEntry>(&self.files())?;
        Ok(files.filter_map(move |file| {
            if next.is_some() && next.as_ref() == file.as_ref().ok() {
                next = match carried.next().transpose() {
                    Ok(next) => next,
                    Err(error) => return Some(Err(error)),
                };
                return None;
            }
            Some(file)
        }))
    }

    /// Gives all folders the same permissions and the same time on every machine, waits until the disk has
    /// everything, and puts the generation in place. The secrets come first: a generation that is in place is whole.
    pub(crate) fn put_in_place(self, state: &State, head: &Head) -> anyhow::Result<()> {
        let id = head.generation;
        let finish = || {
            for list in [self.carried(), self.removed()] {
                fs::remove_file(list)?;
            }
            let path = self.generation.join(HEAD);
            fs::write(&path, serde_json::to_vec(head)?)?;
            normalize(&path, 0o644)?;
            normalize(&self.files(), 0o644)?;
            folders::walk(list::read(&self.files())?, &mut |_| Ok(()), &mut |folder| {
                let path = folder.path_in(&self.folder(folder.area));
                Ok(normalize(&path, folder_mode(folder.area))?)
            })?;
            normalize(&self.generation, 0o755)?;
            // One call in place of an fsync for each file and folder: those of 5,000 files take minutes on a slow
            // disk.
            rustix::fs::syncfs(File::open(&self.generation)?)?;
            anyhow::Ok(())
        };
        finish().with_context(|| format!("can't finish {}", self.generation.display()))?;
        // Those of a run that was cut short between the two renames: the generation isn't in place, so nothing
        // uses them.
        atomic_file::remove_folder_if_there(&state.secrets_of(&id))
            .with_context(|| format!("can't remove {}", state.secrets_of(&id).display()))?;
        atomic_file::rename(&self.secrets, &state.secrets_of(&id))?;
        atomic_file::rename(&self.generation, &state.generation(&id))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Leftovers are removed before the next pull.
        let _ = atomic_file::remove_folder_if_there(&self.generation);
        let _ = atomic_file::remove_folder_if_there(&self.secrets);
    }
}

/// The permissions of a file on the client: normalised, because Nix sees whether a file is executable.
pub(crate) fn mode(file: &protocol::File) -> u32 {
    match (file.path.area(), file.executable) {
        (Area::Config, executable) => normal::file_mode(executable),
        (Area::Secrets, false) => 0o600,
        (Area::Secrets, true) => 0o700,
    }
}

fn folder_mode(area: Area) -> u32 {
    match area {
        Area::Config => normal::FOLDER_MODE,
        Area::Secrets => 0o700,
    }
}

/// Makes the folders above a path. A list of entries has nothing below a symlink, so none of them is one.
fn make_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.is_dir() => fs::create_dir_all(parent),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(Partial::SUFFIX);
    name.into()
}
