//! The appliance of bento: it publishes each machine's configuration to that machine only, receives their reports,
//! and shows the administrator the state of the fleet.
//!
//! The modules follow the data: [`fleet`] → [`scan`] (host tree) → [`generation`] → [`publication`] (chroot), then
//! over SSH, and back: [`report`] → [`status`]. [`sshd`] is the SSH server. Only the [`daemon`] and the
//! [`cli`] know all of them.

// They panic on a closed pipe.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod backup;
pub mod build;
pub mod check;
pub mod cli;
pub mod daemon;
pub mod diff;
#[cfg(test)]
mod fixture;
pub mod fleet;
pub mod generation;
pub mod legacy;
pub mod lock_files;
pub mod logs;
pub mod metrics;
pub mod notify;
pub mod preview;
pub mod problem;
pub mod publication;
pub mod release;
pub mod report;
pub mod scan;
pub mod sshd;
pub mod status;
pub mod store;
pub mod text;
