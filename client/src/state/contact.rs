//! Record that no server could be polled: since when, and why.
//!
//! A machine that is away from its server is no reason for alarm, so its unit doesn't fail; `bento-client status` shows it
//! all the same. Only a change is written: nothing at each poll.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::state::State;
use crate::state::atomic_file;
use crate::state::record;

/// Reason for the lack of contact; removed by the next poll that succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoContact {
    /// Time of the first poll that failed.
    pub(crate) since: Timestamp,
    /// Error of the last poll.
    pub(crate) error: String,
}

/// The record; one that can't be read counts as none.
pub(crate) fn missing(state: &State) -> Option<NoContact> {
    record::read(&state.no_contact()).ok().flatten()
}

/// Records that no server could be polled.
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

/// Removes the record: a server answered.
pub(crate) fn made(state: &State) -> anyhow::Result<()> {
    atomic_file::remove(&state.no_contact())
}
