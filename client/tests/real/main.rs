//! The real `bento-client` against a real sshd and real Nix.
//!
//! These tests need root, OpenSSH's server and Nix, and fail where one of them is missing. Everything that they make
//! lies in folders of their own; the accounts on the server exist only in a mount namespace.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there, with its line"
)]

mod env;
mod processes;
mod publisher;
mod server;

mod activation;
mod boot;
mod bootstrap;
mod by_administrator;
mod check;
mod confirm;
mod cut_short;
mod failures;
mod garbage;
mod guard;
mod hold;
mod jump;
mod memory;
mod pipes;
mod private;
mod pull;
mod reports;
mod resume;
mod retries;
mod secrets;
mod self_update;
mod specialisations;
mod status;
mod symlinks;
mod update;
mod wire;
