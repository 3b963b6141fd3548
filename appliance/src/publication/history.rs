//! The history of a machine: the configurations of superseded publications, so that `bento diff` can show the changes since
//! the generation that a machine runs.
//!
//! `config/` and the record are kept; the manifest is in the folder of manifests. The files are hard links that other
//! publications share, so that only changed ones take space. Nothing is kept that could hold a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bento_protocol::{Area, GenerationId};
use rustix::fs::StatVfs;
use tracing::debug;

use super::{DELTAS, Folder, Publications, numbered};
use crate::publication::published::Published;
use crate::store::atomic_file;
use crate::store::paths::{HostState, State};

/// The history leaves a tenth of the disk free …
const FREE_PART: u64 = 10;
/// … but more than this, in bytes, needn't.
const FREE_BYTES: u64 = 1 << 30;

impl Publications<'_> {
    /// Removes a superseded publication without sessions. Its configuration is kept in the history.
    pub fn remove_superseded(&self, number: u64) -> io::Result<()> {
        let folder = self.folder(number);
        let kept = keep(self.host, number, &folder).unwrap_or_else(|error| {
            // The space of the publication is more important than its history.
            let host = self.host.root().display();
            debug!("{host}: the configuration of publication {number} can't be kept: {error}");
            false
        });
        if kept {
            return Ok(());
        }
        fs::remove_dir_all(&folder.0)
    }

    /// Removes old configurations: the last few remain, and, at any age, the newest of each generation `in_use`. That
    /// function is called only if there are older ones.
    pub fn prune(&self, in_use: impl FnOnce() -> io::Result<Vec<GenerationId>>) -> io::Result<()> {
        prune(self.host, in_use)?;
        self.prune_manifests()
    }

    /// Removes the manifests of generations without a delta, a publication or a kept configuration.
    pub(super) fn prune_manifests(&self) -> io::Result<()> {
        let kept = folders(self.host)?;
        let publications = numbered(&self.host.publications(), "")?;
        let is_needed =
            |number: &u64| kept.contains_key(number) || publications.contains_key(number);
        let manifests = numbered(&self.host.manifests(), ".json")?;
        let mut old = manifests.into_iter().rev().skip(DELTAS + 1);
        old.try_for_each(|(number, path)| {
            if is_needed(&number) {
                return Ok(());
            }
            fs::remove_file(path)
        })
    }
}

/// Moves the configuration of a superseded publication to the history, in one step; after a crash the next attempt goes on.
/// False if there is none, or no space for it: then the publication is still in its folder.
fn keep(host: &HostState, number: u64, superseded: &Folder) -> io::Result<bool> {
    let chroot = superseded.chroot();
    let config = chroot.join(Area::Config.folder());
    if !config.is_dir() || is_scarce(host)? {
        return Ok(false);
    }
    remove_all_but(&chroot, &[config])?;
    remove_all_but(&superseded.0, &[superseded.chroot(), superseded.record()])?;
    // A removed secret mustn't reappear under the new name.
    fs::File::open(&chroot)?.sync_all()?;
    let kept = host.kept();
    match DirBuilder::new().mode(0o700).create(&kept) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => {
            made?;
            atomic_file::sync_folder_of(&kept)?;
        }
    }
    atomic_file::rename(&superseded.0, &folder(host, number).0)?;
    Ok(true)
}

fn remove_all_but(folder: &Path, remain: &[PathBuf]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if remain.contains(&entry.path()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The folder of a kept configuration.
pub(super) fn folder(host: &HostState, number: u64) -> Folder {
    Folder(host.kept().join(number.to_string()))
}

/// The kept configurations, by number.
pub(super) fn folders(host: &HostState) -> io::Result<BTreeMap<u64, Folder>> {
    let folders = numbered(&host.kept(), "")?.into_iter();
    Ok(folders
        .map(|(number, path)| (number, Folder(path)))
        .collect())
}

/// Removes old configurations: all if the disk is nearly full, otherwise all but the last few and the newest of each
/// generation `in_use`.
fn prune(
    host: &HostState,
    in_use: impl FnOnce() -> io::Result<Vec<GenerationId>>,
) -> io::Result<()> {
    let mut folders = folders(host)?;
    if folders.is_empty() {
        return Ok(());
    }
    if is_scarce(host)? {
        return folders.values().try_for_each(remove);
    }
    let Some(older) = folders.keys().rev().nth(DELTAS).copied() else {
        return Ok(());
    };
    let recent = folders.split_off(&(older + 1));
    let recent: Vec<_> = recent.values().map(record).collect();
    let published = Published::read(host)?.map(|published| published.generation);
    let mut missing: BTreeSet<_> = in_use()?.into_iter().collect();
    missing.retain(|id| published != Some(*id) && !recent.contains(&Some(*id)));
    for folder in folders.values().rev() {
        let is_missing = record(folder).is_some_and(|id| missing.remove(&id));
        if !is_missing {
            remove(folder)?;
        }
    }
    Ok(())
}

/// The generation of a kept configuration; none if its record can't be read, such as after half of a removal.
fn record(folder: &Folder) -> Option<GenerationId> {
    let published: Option<Published> = atomic_file::read_json(&folder.record()).ok()?;
    published.map(|published| published.generation)
}

/// Removes a kept configuration, its record first: half of one never counts as a whole one.
fn remove(folder: &Folder) -> io::Result<()> {
    atomic_file::remove(&folder.record())?;
    fs::remove_dir_all(&folder.0)
}

/// Removes the kept configurations of all machines, to make space. False if there were none.
///
/// # Errors
/// When something can't be removed.
pub fn make_room(state: &State) -> io::Result<bool> {
    let mut made = false;
    for entry in fs::read_dir(state.hosts())? {
        // Another entry isn't the appliance's.
        let name = entry?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        for folder in folders(&state.host(&name))?.values() {
            remove(folder)?;
            made = true;
        }
    }
    Ok(made)
}

/// Whether the disk has too little space for history.
fn is_scarce(host: &HostState) -> io::Result<bool> {
    let disk = rustix::fs::statvfs(host.root())?;
    Ok(leaves_little(&disk))
}

fn leaves_little(disk: &StatVfs) -> bool {
    let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    let all = disk.f_blocks.saturating_mul(disk.f_frsize);
    let few_bytes = bytes < FREE_BYTES.min(all / FREE_PART);
    // A filesystem without a limit of inodes reports 0.
    let few_inodes = disk.f_files > 0 && disk.f_favail < disk.f_files / FREE_PART;
    few_bytes || few_inodes
}
