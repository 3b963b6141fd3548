//! The client of bento: polls, pulls, rebuilds, checks the new system, rolls back if necessary, and reports.
//!
//! [`update`] has the order of the phases and the handling of failures; the phases themselves are in [`server`],
//! [`generation`] and [`machine`]. [`state`] has the records between runs. [`run`] runs all of it on this machine.

// These macros panic if the output is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod commands;
mod console;
pub mod environment;
pub mod exit;
pub mod generation;
pub mod machine;
pub mod run;
pub mod server;
pub mod settings;
pub mod state;
pub mod update;

pub use bento_nix::error as nix_error;

#[cfg(test)]
#[path = "../tests/real/publisher.rs"]
mod publisher;
