//! The files that git tracks in the fleet folder, from its index, if `.git` is a folder there.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use gix_index::State;
use gix_index::decode::Options;
use gix_index::entry::Mode;
use gix_index::hash::{Kind, hasher};
use rustix::io::Errno;

use super::folder::{FleetFolder, Stamp};

/// Its path, relative to the fleet folder.
pub(super) const PATH: &str = ".git/index";

/// The largest index in bytes: about half a million files.
const MAX_BYTES: u64 = 64 << 20;

/// The paths that git tracks, including conflicts and files that are only intended to be added.
#[derive(Debug, Default)]
pub struct Index {
    /// None if git has no index yet, or none that is visible from here.
    stamp: Option<Stamp>,
    files: BTreeSet<Box<[u8]>>,
    /// Folders that are submodules, which have indexes of their own.
    submodules: BTreeSet<Box<[u8]>>,
}

/// Why the index can't be used.
#[derive(Debug)]
pub(super) enum Unreadable {
    File(io::Error),
    /// A part of it is in another file.
    Split,
    /// It has entries for folders that aren't checked out, instead of their files.
    Sparse,
    Damaged(String),
}

impl Index {
    /// Reads the index, or returns the previous one if it hasn't changed.
    pub(super) fn read(fleet: &FleetFolder, before: Arc<Index>) -> Result<Arc<Index>, Unreadable> {
        let is_known = |stamp: &Stamp| before.stamp == Some(*stamp);
        match fleet.bytes(Path::new(PATH), MAX_BYTES, is_known) {
            Ok(Some((bytes, stamp))) => {
                let mut index = Index::parse(&bytes)?;
                index.stamp = Some(stamp);
                Ok(Arc::new(index))
            }
            Ok(None) => Ok(before),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Arc::default()),
                _ => Err(Unreadable::File(error)),
            },
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let state = kinds(bytes)
            .into_iter()
            .map(|kind| state(bytes, kind))
            .reduce(Result::or)
            .unwrap_or_else(|| Err("its checksum doesn't fit".to_owned()))
            .map_err(Unreadable::Damaged)?;
        if state.link().is_some() {
            return Err(Unreadable::Split);
        }
        if state.is_sparse() {
            return Err(Unreadable::Sparse);
        }
        let mut index = Index::default();
        for entry in state.entries() {
            let path: &[u8] = entry.path(&state).as_ref();
            let paths = match entry.mode {
                Mode::COMMIT => &mut index.submodules,
                _ => &mut index.files,
            };
            paths.insert(path.into());
        }
        Ok(index)
    }

    /// Whether git tracks a file or a symlink at this path, relative to the fleet folder.
    pub(super) fn has_file(&self, path: &Path) -> bool {
        self.files.contains(path.as_os_str().as_bytes())
    }

    /// Whether git tracks a folder as a submodule.
    pub(super) fn has_submodule(&self, path: &Path) -> bool {
        self.submodules.contains(path.as_os_str().as_bytes())
    }

    /// Whether git tracks anything below a folder.
    pub(super) fn reaches_into(&self, folder: &Path) -> bool {
        let mut start = folder.as_os_str().as_bytes().to_vec();
        start.push(b'/');
        [&self.files, &self.submodules].into_iter().any(|paths| {
            let mut from = paths.range(start.clone().into_boxed_slice()..);
            from.next().is_some_and(|path| path.starts_with(&start))
        })
    }

    /// Whether there is a visible index.
    pub(super) fn is_there(&self) -> bool {
        self.stamp.is_some()
    }

    /// The time of git's last write.
    pub(super) fn changed_at(&self) -> Option<SystemTime> {
        self.stamp?.changed_at()
    }
}

fn state(bytes: &[u8], kind: Kind) -> Result<State, String> {
    let options = Options {
        thread_limit: Some(1),
        ..Options::default()
    };
    // The time of the index is only needed for comparing files with it.
    let written = State::new(kind).timestamp();
    State::from_bytes(bytes, written, kind, options)
        .map(|(state, _)| state)
        .map_err(|error| error.to_string())
}

/// The possible kinds of hashes of a repository, by the checksum at the end of its index: both for a checksum of zeros
/// (index.skipHash), none if the checksum is wrong.
fn kinds(bytes: &[u8]) -> Vec<Kind> {
    let fits = |kind: &Kind| {
        let Some(end) = bytes.len().checked_sub(kind.len_in_bytes()) else {
            return false;
        };
        let (content, checksum) = bytes.split_at(end);
        let mut hasher = hasher(*kind);
        hasher.update(content);
        let found = hasher.try_finalize();
        checksum.iter().all(|byte| *byte == 0)
            || found.is_ok_and(|found| found.as_slice() == checksum)
    };
    // The longer first, because a long checksum of zeros ends with a short one.
    [Kind::Sha256, Kind::Sha1]
        .into_iter()
        .filter(fits)
        .collect()
}

#[cfg(test)]
mod tests;
