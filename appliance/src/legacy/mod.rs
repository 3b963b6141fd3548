//! Bento 2022: the folder of its server, its `fleet.nix`, and the logs of its clients.

pub(crate) mod fleet_nix;
mod report;
pub(crate) mod server_folder;

pub use report::{LegacyLog, LegacyNameError, LegacyOutcome};
