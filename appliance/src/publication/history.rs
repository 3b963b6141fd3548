//! What is kept of publications that aren't the published ones any more, so that `bento diff` can show what has changed
//! since the one that a machine runs.
//!
//! That is `config/`, and which generation it was; the manifest lies in the folder of manifests. Its files are hard
//! links that other publications share, so that only those which changed take room. Nothing is kept in which a secret
//! could be.

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

/// A tenth of the disk stays free of what is only kept to be shown …
const FREE_PART: u64 = 10;
/// … but more than this, in bytes, needn't.
const FREE_BYTES: u64 = 1 << 30;

impl Publications<'_> {
    /// Removes a publication that is no longer the published one, and in which no session stands. Its configuration is
    /// kept, to be compared with later ones.
    pub fn remove_superseded(&self, number: u64) -> io::Result<()> {
        let folder = self.folder(number);
        let kept = keep(self.host, number, &folder).unwrap_or_else(|error| {
            // It is only shown. What is in the way mustn't keep the publication's room as well.
            let host = self.host.root().display();
            debug!("{host}: publication {number} can't be kept to compare it with: {error}");
            false
        });
        if kept {
            return Ok(());
        }
        fs::remove_dir_all(&folder.0)
    }

    /// Removes what needn't be kept of retired publications any more: the last few remain, and the newest of each
    /// generation that is `in_use`, however old. That is asked only if there is anything older.
    pub fn prune(&self, in_use: impl FnOnce() -> io::Result<Vec<GenerationId>>) -> io::Result<()> {
        prune(self.host, in_use)?;
        self.prune_manifests()
    }

    /// Removes manifests from which no delta leads any more, and whose files aren't there any more either.
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

/// Keeps what a retired publication showed, in one step: whenever it is cut off, the next try goes on. What couldn't be
/// kept is still in the publication's folder. False if there is nothing to keep, or no room for it.
fn keep(host: &HostState, number: u64, retired: &Folder) -> io::Result<bool> {
    let chroot = retired.chroot();
    let config = chroot.join(Area::Config.folder());
    if !config.is_dir() || is_scarce(host)? {
        return Ok(false);
    }
    remove_all_but(&chroot, &[config])?;
    remove_all_but(&retired.0, &[retired.chroot(), retired.record()])?;
    // A secret that was removed mustn't come again with the new name.
    fs::File::open(&chroot)?.sync_all()?;
    let kept = host.kept();
    match DirBuilder::new().mode(0o700).create(&kept) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => {
            made?;
            atomic_file::sync_folder_of(&kept)?;
        }
    }
    atomic_file::rename(&retired.0, &folder(host, number).0)?;
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

/// Where a publication is kept.
pub(super) fn folder(host: &HostState, number: u64) -> Folder {
    Folder(host.kept().join(number.to_string()))
}

/// What is kept, by number.
pub(super) fn folders(host: &HostState) -> io::Result<BTreeMap<u64, Folder>> {
    let folders = numbered(&host.kept(), "")?.into_iter();
    Ok(folders
        .map(|(number, path)| (number, Folder(path)))
        .collect())
}

/// Removes what needn't be kept any more: all where the disk is nearly full, and else whatever is older than the last
/// few, except the newest of each generation that is `in_use`, which is asked only if there is anything older.
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

/// Which generation it was; none where that can't be read any more, such as after half of a removal.
fn record(folder: &Folder) -> Option<GenerationId> {
    let published: Option<Published> = atomic_file::read_json(&folder.record()).ok()?;
    published.map(|published| published.generation)
}

/// The record first, so that half of one is never taken for a whole one.
fn remove(folder: &Folder) -> io::Result<()> {
    atomic_file::remove(&folder.record())?;
    fs::remove_dir_all(&folder.0)
}

/// Removes all that is kept of every machine, for want of room. True if there was anything.
///
/// # Errors
/// When something can't be removed.
pub fn make_room(state: &State) -> io::Result<bool> {
    let mut made = false;
    for entry in fs::read_dir(state.hosts())? {
        // What isn't a machine's isn't the appliance's.
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

/// Whether what is left of the disk should be left to what is needed.
fn is_scarce(host: &HostState) -> io::Result<bool> {
    let disk = rustix::fs::statvfs(host.root())?;
    Ok(leaves_little(&disk))
}

fn leaves_little(disk: &StatVfs) -> bool {
    let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    let all = disk.f_blocks.saturating_mul(disk.f_frsize);
    let few_bytes = bytes < FREE_BYTES.min(all / FREE_PART);
    // A filesystem that has as many inodes as it needs says that it has none.
    let few_inodes = disk.f_files > 0 && disk.f_favail < disk.f_files / FREE_PART;
    few_bytes || few_inodes
}
