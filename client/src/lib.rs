//! The client of bento: polls, pulls, rebuilds, checks itself, rolls back if it must, and reports.
//!
//! [`transaction`] says which phase follows which, and what follows when one fails; what a phase does is in the module
//! of its name, or in those that it uses. [`run`] carries them out on this machine.

// They panic where nobody reads any more what is printed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

// What an update does, phase by phase.
mod arm;
mod build;
mod confirm;
mod contact;
mod inputs;
mod next_client;
mod poll;
pub mod pull;
mod reboot;
mod report;
pub mod run;
pub mod stage;
mod switch;
pub mod transaction;
mod trial_build;
pub mod verify;

// What may keep it from going on.
mod disk;
mod guard;
mod health;
mod hold;

// What a server gives.
pub mod archive;
pub mod connection;
pub mod host_key;
pub mod identity;
mod transport;

// What lies on this machine.
mod durable;
mod folders;
pub mod generations;
mod list;
pub mod machine;
mod partial;
mod received;
mod record;
mod secrets;
mod spool;
pub mod state;

// What people say and see.
pub mod commands;
mod console;
pub mod exit;
pub use bento_nix::error as nix_error;
pub mod overview;
pub mod settings;

#[cfg(test)]
#[path = "../tests/real/publisher.rs"]
mod publisher;
