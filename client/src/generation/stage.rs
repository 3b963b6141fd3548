//! Puts a verified generation in place, and its secrets beside it.

use bento_protocol::GenerationId;

use crate::generation::staged;
use crate::generation::staged::Staged;
use crate::generation::verify::Verified;
use crate::state::State;

/// Puts a generation in place in one step. Others are removed, except those to `keep`.
pub fn stage(state: &State, verified: Verified, keep: &[GenerationId]) -> anyhow::Result<Staged> {
    let Verified { partial, head } = verified;
    let id = head.generation;
    partial.put_in_place(state, &head)?;
    let keep: Vec<_> = keep.iter().copied().chain([id]).collect();
    staged::remove_all_but(state, &keep)?;
    Ok(Staged::new(state, head))
}
