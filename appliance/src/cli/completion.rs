//! Shell completion of machine names.

use std::ffi::OsStr;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::fleet_folder::{FleetFolderOption, read_settings};
use crate::fleet;

/// Completes the machines of the fleet in the current folder or in `BENTO_DIR`, if there is one.
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
