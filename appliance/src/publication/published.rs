//! The record of a publication, beside its chroot: written by the publish loop, read by status.

use std::io;

use bento_protocol::{GenerationId, SystemPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::atomic_file;
use crate::store::paths::HostState;

/// The generation that a machine finds when it polls.
///
/// The manifest remains the truth: this is a summary for status, which reads a thousand of them and mustn't open a
/// thousand manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The id of the generation.
    pub generation: GenerationId,
    /// The time of publication, by the appliance's clock.
    pub at: Timestamp,
    /// The system that `bento build` built from this generation, where a `flake.lock` makes that comparable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_system: Option<SystemPath>,
}

impl Published {
    /// The record of a generation without a build.
    pub fn new(generation: GenerationId, at: Timestamp) -> Self {
        Published {
            generation,
            at,
            expected_system: None,
        }
    }

    /// Reads the record of a machine's current publication; none if there is none.
    pub fn read(host: &HostState) -> io::Result<Option<Self>> {
        atomic_file::read_json(&host.published())
    }
}
