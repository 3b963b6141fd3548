//! How an unpacked archive becomes the state: each step can be cut off and done again. The name of its folder says how
//! far it came.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::entry::is_own;
use crate::store::atomic_file;
use crate::store::paths::State;

/// It is being unpacked: nothing has changed yet.
const PARTIAL: &str = "restore.partial";
/// It is whole, and what the state held before goes.
const CLEARING: &str = "restore.clearing";
/// Nothing of that is left, and what was restored moves to its places.
const MOVING: &str = "restore.moving";

/// Where an archive is unpacked.
pub(super) fn partial(state: &State) -> PathBuf {
    state.root().join(PARTIAL)
}

/// Makes what was unpacked the state, instead of what it held before.
pub(super) fn install(state: &State) -> io::Result<()> {
    atomic_file::rename(&partial(state), &state.root().join(CLEARING))?;
    resume(state)
}

/// Ends a restore that was cut off: one that had everything goes on, of any other nothing is left.
///
/// # Errors
/// When that can't be done.
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
