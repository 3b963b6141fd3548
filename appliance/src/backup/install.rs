//! Makes an unpacked archive the state. Each step can be interrupted and repeated; the name of the folder records the
//! progress.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::entry::is_own;
use crate::store::atomic_file;
use crate::store::paths::State;

/// The archive is being unpacked; the state is unchanged.
const PARTIAL: &str = "restore.partial";
/// The archive is complete; the old state is being removed.
const CLEARING: &str = "restore.clearing";
/// The old state is removed; the restored entries are being moved into place.
const MOVING: &str = "restore.moving";

/// The folder in which an archive is unpacked.
pub(super) fn partial(state: &State) -> PathBuf {
    state.root().join(PARTIAL)
}

/// Replaces the state with the unpacked archive.
pub(super) fn install(state: &State) -> io::Result<()> {
    atomic_file::rename(&partial(state), &state.root().join(CLEARING))?;
    resume(state)
}

/// Finishes an interrupted restore if its archive was complete, and removes it otherwise.
///
/// # Errors
/// When the state can't be written.
pub fn finish(state: &State) -> io::Result<()> {
    atomic_file::remove_tree(&partial(state))?;
    resume(state)
}

fn resume(state: &State) -> io::Result<()> {
    let (clearing, moving) = (state.root().join(CLEARING), state.root().join(MOVING));
    if clearing.exists() {
        for entry in fs::read_dir(state.root())? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(is_own) {
                atomic_file::remove_tree(&entry.path())?;
            }
        }
        atomic_file::rename(&clearing, &moving)?;
    }
    if moving.exists() {
        for entry in fs::read_dir(&moving)? {
            let entry = entry?;
            atomic_file::rename(&entry.path(), &state.root().join(entry.file_name()))?;
        }
        fs::remove_dir(&moving)?;
        atomic_file::sync_folder_of(&moving)?;
    }
    Ok(())
}
