//! What git tracks in the fleet folder: its index, where `.git` is a folder there.

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

/// Where it lies, relative to the fleet folder.
pub(super) const PATH: &str = ".git/index";

/// The largest index in bytes: about half a million files.
const MAX_BYTES: u64 = 64 << 20;

/// The paths that git tracks, conflicts and what is only intended to be added included.
#[derive(Debug, Default)]
pub struct Index {
    /// None where git has no index yet, or none that can be seen from here.
    stamp: Option<Stamp>,
    files: BTreeSet<Box<[u8]>>,
    /// Folders that are checkouts of other repositories, which have indexes of their own.
    submodules: BTreeSet<Box<[u8]>>,
}

/// Why what git tracks can't be told.
#[derive(Debug)]
pub(super) enum Unreadable {
    File(io::Error),
    /// Part of it lies in another file.
    Split,
    /// Folders that aren't checked out stand for what is in them.
    Sparse,
    Damaged(String),
}

impl Index {
    /// Reads the index, or takes the one from before if it is still the same.
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

    /// Whether git tracks a file or a symlink at this place, relative to the fleet folder.
    pub(super) fn has_file(&self, path: &Path) -> bool {
        self.files.contains(path.as_os_str().as_bytes())
    }

    /// Whether git tracks a folder as the checkout of another repository.
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

    /// Whether there is one, and it could be seen.
    pub(super) fn is_there(&self) -> bool {
        self.stamp.is_some()
    }

    /// When git last wrote it.
    pub(super) fn changed_at(&self) -> Option<SystemTime> {
        self.stamp?.changed_at()
    }
}

fn state(bytes: &[u8], kind: Kind) -> Result<State, String> {
    let options = Options {
        thread_limit: Some(1),
        ..Options::default()
    };
    // Only who compares files with it needs the time at which it was written.
    let written = State::new(kind).timestamp();
    State::from_bytes(bytes, written, kind, options)
        .map(|(state, _)| state)
        .map_err(|error| error.to_string())
}

/// The kinds of hashes that a repository may use, as its checksum at the end of the index says; either where git was
/// told to leave it at zeros; none where it fits neither.
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
    // The longer first: more zeros also end in fewer.
    [Kind::Sha256, Kind::Sha1]
        .into_iter()
        .filter(fits)
        .collect()
}

#[cfg(test)]
mod tests;
