//! What the client remembers between runs: what is installed, and what the appliance was told.

use std::path::Path;

use anyhow::Context;
use bento_protocol::{GenerationId, Outcome, Report, SystemPath};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::machine::Situation;

/// The generation that was installed last, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The generation.
    pub generation: GenerationId,
    /// The system that was built from it.
    pub system: SystemPath,
    /// How its run ended.
    pub outcome: Outcome,
}

/// What the last report said about the machine: as long as this stays true, there is nothing to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    generation: GenerationId,
    running: Option<SystemPath>,
    booted: Option<SystemPath>,
    reboot_required: bool,
    held: Option<Timestamp>,
}

impl Told {
    /// What a report about this generation in this situation says.
    pub fn new(generation: GenerationId, situation: &Situation) -> Self {
        Told {
            generation,
            running: situation.running.clone(),
            booted: situation.booted.clone(),
            reboot_required: situation.reboot_required,
            held: situation.held,
        }
    }

    /// What a report says.
    pub fn by(report: &Report) -> Self {
        Told {
            generation: report.generation,
            running: report.system.running.clone(),
            booted: report.system.booted.clone(),
            reboot_required: report.reboot_required,
            held: report.held,
        }
    }
}

/// Reads a record; none if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let Some(json) = durable::read_if_there(path)? else {
        return Ok(None);
    };
    let record = serde_json::from_slice(&json)
        .with_context(|| format!("{} isn't what the client wrote there", path.display()))?;
    Ok(Some(record))
}

/// Writes a record, whole or not at all.
pub(crate) fn write(path: &Path, record: &impl Serialize) -> anyhow::Result<()> {
    let mut json = serde_json::to_vec(record).context("a record can't be written as JSON")?;
    json.push(b'\n');
    durable::write(path, &json, 0o644)
}
