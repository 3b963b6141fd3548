//! The stable path at which services find their secrets.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bento_protocol::GenerationId;

use crate::durable;
use crate::state::State;

/// Lets the stable path lead to the secrets of a generation, all of them in one step; of none, the path goes.
pub(crate) fn switch_to(state: &State, id: Option<&GenerationId>) -> anyhow::Result<()> {
    let link = state.secrets();
    let Some(id) = id.filter(|id| state.secrets_of(id).is_dir()) else {
        return durable::remove_if_there(&link)
            .with_context(|| format!("can't remove {}", link.display()));
    };
    // Relative, so that a state folder that was moved still works.
    let target: PathBuf = match state.secrets_folder().file_name() {
        Some(folder) => Path::new(folder).join(id.to_string()),
        None => state.secrets_of(id),
    };
    if std::fs::read_link(&link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    durable::point(&link, &target)
}
