//! What is published for a machine: written by whoever publishes, read by status.

use std::io;

use bento_protocol::{GenerationId, SystemPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::atomic_file;
use crate::store::paths::HostState;

/// The generation that a machine finds when it polls now.
///
/// The manifest remains the truth: this is a summary beside it for status, which reads a thousand of them and mustn't
/// open a thousand manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its id.
    pub generation: GenerationId,
    /// When it was published, by the appliance's clock.
    pub at: Timestamp,
    /// What `bento build` made of this generation, where a `flake.lock` makes that comparable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_system: Option<SystemPath>,
}

impl Published {
    /// A generation that was published at a time.
    pub fn new(generation: GenerationId, at: Timestamp) -> Self {
        Published {
            generation,
            at,
            expected_system: None,
        }
    }

    /// Reads what is published for a machine; none when nothing is yet.
    pub fn read(host: &HostState) -> io::Result<Option<Self>> {
        atomic_file::read_json(&host.published())
    }
}
