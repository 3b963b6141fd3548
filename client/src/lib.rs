//! The client of bento: polls, pulls, rebuilds, and reports.
//!
//! [`transaction`] says which phase follows which, and what follows when one fails; what they do is in modules of their
//! names, or of what they use. [`run`] carries them out on this machine.

// What an update does, phase by phase.
mod arm;
mod build;
mod confirm;
mod poll;
mod pull;
mod report;
pub mod run;
mod stage;
mod switch;
pub mod transaction;
mod verify;

// What a server gives.
mod archive;
pub mod connection;
pub mod host_key;
pub mod identity;
mod transport;

// What lies on this machine.
mod durable;
mod generations;
pub mod machine;
mod partial;
mod record;
mod secrets;
mod spool;
pub mod state;

// What people say and see.
pub mod commands;
mod console;
pub mod exit;
mod nix_error;
mod process;
pub mod settings;
mod tail;

#[cfg(test)]
#[path = "../tests/real/publisher.rs"]
mod publisher;
