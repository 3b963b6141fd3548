//! Bento of 2022: its server's folder, its `fleet.nix`, and what its clients report.

pub(crate) mod fleet_nix;
mod report;
pub(crate) mod server_folder;

pub use report::{LegacyLog, LegacyNameError, LegacyOutcome};
