//! The chroot of a machine. Everything belongs to root and is readable by the machine's group only; `logs/` is the one
//! folder to which it can write, and can't list.

use std::fs::{self, DirBuilder, FileTimes, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bento_protocol::{Area, Delta, Digest, File, FilePath, Manifest, ManifestEntry, chroot};
use sha2::Digest as _;

use super::{archive, plain};
use crate::generation::{self, ReadError};
use crate::scan::{FleetFolder, HostTree, TreeFile};

/// Readable and passable for the machine's group.
pub const FOLDER: u32 = 0o750;
/// Readable for the machine's group.
pub const FILE: u32 = 0o440;
/// The same, and executable.
pub const EXECUTABLE: u32 = 0o550;
/// The group may create files in it and nothing else: without the r bit it can't list it, and the configuration of sshd
/// refuses to rename, remove or change files.
pub const INBOX: u32 = 0o730;

pub(super) fn inbox(chroot: &Path) -> PathBuf {
    inside(chroot, chroot::LOGS)
}

pub(super) fn manifest(chroot: &Path) -> PathBuf {
    inside(chroot, chroot::MANIFEST)
}

pub(super) fn last_change_date(chroot: &Path) -> PathBuf {
    inside(chroot, chroot::LAST_CHANGE_DATE)
}

/// A path of the chroot as seen from outside of it.
fn inside(chroot: &Path, absolute: &str) -> PathBuf {
    chroot.join(absolute.trim_start_matches('/'))
}

/// A chroot that holds an inbox and nothing else.
pub(super) fn create_empty(chroot: &Path, gid: u32) -> io::Result<()> {
    create_folder(chroot, FOLDER, gid)?;
    create_folder(&inbox(chroot), INBOX, gid)
}

fn create_folder(path: &Path, mode: u32, gid: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    chown(path, None, Some(gid))?;
    // After chown, and not left to the umask.
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Writes one publication.
pub(super) struct Writer<'a> {
    pub(super) chroot: &'a Path,
    /// The folder of the secrets until they are in the archives, which the machine can't see. It is removed afterwards.
    pub(super) aside: &'a Path,
    pub(super) gid: u32,
    pub(super) manifest: &'a Manifest,
}

impl Writer<'_> {
    /// Writes `config/` with symlinks followed, and the secrets aside. Unchanged files are hard links to those of the previous
    /// publication, which are never written to.
    pub(super) fn files(
        &self,
        tree: &HostTree,
        fleet: &FleetFolder,
        previous: Option<(&Manifest, &Path)>,
    ) -> Result<(), ReadError> {
        let create = || {
            create_empty(self.chroot, self.gid)?;
            DirBuilder::new().mode(0o700).create(self.aside)
        };
        create().map_err(ReadError::Output)?;
        // Both have the same paths in the same order: the manifest was made from the tree.
        for (entry, found) in self.manifest.files().iter().zip(tree.files()) {
            let ManifestEntry::File(file) = entry else {
                continue;
            };
            let target = self.local(file);
            self.create_parents(&file.path).map_err(ReadError::Output)?;
            let old = previous.filter(|(manifest, _)| manifest.file(&file.path) == Some(entry));
            let linked = file.path.area() == Area::Config
                && old.is_some_and(|(_, chroot)| {
                    fs::hard_link(chroot.join(file.path.as_str()), &target).is_ok()
                });
            if !linked {
                self.copy(fleet, found, file, &target)?;
            }
        }
        self.follow_symlinks().map_err(ReadError::Output)
    }

    /// Replaces symlinks in `config/` by their targets.
    fn follow_symlinks(&self) -> io::Result<()> {
        for (seen, file) in plain::copies(self.manifest) {
            self.create_parents(&seen)?;
            let target = self.chroot.join(seen.as_str());
            if fs::hard_link(self.local(file), &target).is_err() {
                // A filesystem limits the number of links of a file.
                fs::copy(self.local(file), &target)?;
                self.set_attributes(
                    &fs::File::open(&target)?,
                    file.executable,
                    archive::MODIFIED,
                )?;
            }
        }
        Ok(())
    }

    /// Copies a file of the fleet, if it is still the one of the manifest.
    fn copy(
        &self,
        fleet: &FleetFolder,
        found: &TreeFile,
        file: &File,
        target: &Path,
    ) -> Result<(), ReadError> {
        let mut output = fs::File::create_new(target).map_err(ReadError::Output)?;
        let mut hasher = sha2::Sha256::new();
        generation::read(fleet, found, |chunk| {
            hasher.update(chunk);
            output.write_all(chunk)
        })?;
        if Digest::from_hasher(hasher) != file.sha256 {
            return Err(ReadError::Changed(found.real.clone()));
        }
        self.set_attributes(&output, file.executable, archive::MODIFIED)
            .map_err(ReadError::Output)
    }

    /// Sets the owner, mode and times of a file.
    fn set_attributes(&self, file: &fs::File, executable: bool, modified: u64) -> io::Result<()> {
        std::os::unix::fs::fchown(file, None, Some(self.gid))?;
        file.set_permissions(Permissions::from_mode(if executable {
            EXECUTABLE
        } else {
            FILE
        }))?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(modified);
        file.set_times(FileTimes::new().set_modified(time).set_accessed(time))
    }

    /// The path of a file of the manifest while the publication is staged.
    fn local(&self, file: &File) -> PathBuf {
        match file.path.area() {
            Area::Config => self.chroot.join(file.path.as_str()),
            Area::Secrets => self.aside.join(file.path.rest()),
        }
    }

    fn create_parents(&self, path: &FilePath) -> io::Result<()> {
        if path.area() == Area::Secrets {
            return match self.aside.join(path.rest()).parent() {
                Some(parent) => fs::create_dir_all(parent),
                None => Ok(()),
            };
        }
        let mut folders: Vec<_> = path.folders().collect();
        folders.reverse();
        for folder in folders.into_iter().map(|folder| self.chroot.join(folder)) {
            match create_folder(&folder, FOLDER, self.gid) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Writes the bundle, and the deltas from these generations.
    pub(super) fn archives(&self, history: &[Manifest]) -> io::Result<()> {
        let json = serde_json::to_vec(self.manifest)?;
        let manifest = manifest(self.chroot);
        fs::write(&manifest, &json)?;
        self.set_attributes_of(&manifest)?;
        let bundle = inside(self.chroot, chroot::BUNDLE);
        let content = |file: &File| fs::File::open(self.local(file));
        archive::write(
            &bundle,
            (chroot::MANIFEST_ENTRY, &json),
            self.manifest.files().iter(),
            content,
        )?;
        self.set_attributes_of(&bundle)?;
        create_folder(&inside(self.chroot, chroot::DELTA), FOLDER, self.gid)?;
        for old in history
            .iter()
            .filter(|old| old.generation() != self.manifest.generation())
        {
            let path = inside(self.chroot, &chroot::delta(&old.generation()));
            if path.exists() {
                continue;
            }
            let delta = Delta::between(old, self.manifest);
            let json = serde_json::to_vec(&delta)?;
            archive::write(
                &path,
                (chroot::DELTA_ENTRY, &json),
                delta.changed.iter(),
                content,
            )?;
            self.set_attributes_of(&path)?;
        }
        Ok(())
    }

    /// Writes the files that clients poll.
    pub(super) fn poll_files(&self, last_change: SystemTime) -> io::Result<()> {
        let generation = inside(self.chroot, chroot::GENERATION);
        symlink(self.manifest.generation().to_string(), &generation)?;
        lchown(&generation, None, Some(self.gid))?;
        let path = last_change_date(self.chroot);
        let file = fs::File::create_new(&path)?;
        self.set_attributes(&file, false, archive::MODIFIED)?;
        file.set_modified(last_change)
    }

    fn set_attributes_of(&self, path: &Path) -> io::Result<()> {
        self.set_attributes(&fs::File::open(path)?, false, archive::MODIFIED)
    }
}
