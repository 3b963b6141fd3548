//! The client of bento: polls, pulls, rebuilds, checks itself, rolls back if it must, and reports.
//!
//! [`update`] says which phase follows which, and what follows when one fails; what a phase does is in
//! [`server`], [`generation`] and [`machine`]. [`state`] is what is remembered between runs. [`run`] carries all of it
//! out on this machine.

// They panic where nobody reads any more what is printed.
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
