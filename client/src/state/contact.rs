//! That no server could be asked what is published: since when, and why.
//!
//! A machine that is away from its server is nothing to be alarmed about, so that its unit doesn't fail; whoever looks at
//! the machine should see it all the same. Only what changes is written: nothing at each poll.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::state::State;
use crate::state::atomic_file;
use crate::state::record;

/// Why there is no contact; it goes with the next poll that succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoContact {
    /// When a server was first missed.
    pub(crate) since: Timestamp,
    /// What was said of it last.
    pub(crate) error: String,
}

/// What is remembered; a record that can't be read is as good as none.
pub(crate) fn missing(state: &State) -> Option<NoContact> {
    record::read(&state.no_contact()).ok().flatten()
}

/// Remembers that no server could be asked.
pub(crate) fn failed(state: &State, error: &str, now: Timestamp) -> anyhow::Result<()> {
    let before = missing(state);
    let next = NoContact {
        since: before.as_ref().map_or(now, |before| before.since),
        error: error.to_owned(),
    };
    if before.as_ref() == Some(&next) {
        return Ok(());
    }
    record::write(&state.no_contact(), &next)
}

/// Forgets it: a server answered.
pub(crate) fn made(state: &State) -> anyhow::Result<()> {
    atomic_file::remove(&state.no_contact())
}
