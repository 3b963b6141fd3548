//! What a shell offers where a machine is to be named.

use std::ffi::OsStr;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::fleet_folder::{FleetFolderOption, read_settings};
use crate::fleet;

/// Offers the machines of the fleet in which somebody stands, or which `BENTO_DIR` names; none where there is none.
pub(super) fn machines() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let begun = current.to_string_lossy();
        let names = names().into_iter();
        let names = names.filter(|name| name.starts_with(&*begun));
        names.map(CompletionCandidate::new).collect::<Vec<_>>()
    })
}

fn names() -> Vec<String> {
    let folder = FleetFolderOption::of_environment().find().ok();
    let text = folder.and_then(|folder| read_settings(&folder).ok());
    let reading = text.and_then(|text| fleet::read(&text).ok());
    let hosts = reading.map(|reading| reading.fleet.hosts);
    let hosts = hosts.into_iter().flatten();
    hosts.map(|(name, _)| name.to_string()).collect()
}
