//! The appliance of bento: it publishes each machine's configuration to that machine only, takes in their reports,
//! and tells the administrator the truth about the fleet.
//!
//! The modules follow the data: [`fleet`] → [`tree`] (host tree) → [`generation`] → [`publication`] (chroot), then
//! over the wire, and back: [`report`] → [`status`]. [`session`] is the wire's end on this side. Only the
//! [`supervisor`] knows them all.

// They panic where nobody reads any more what is printed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod access;
pub mod activity;
pub mod backup;
mod brevity;
pub mod building;
pub mod change;
pub mod check;
pub mod commands;
pub mod comparison;
pub mod durable;
pub mod enrolment;
#[cfg(test)]
mod fixture;
pub mod fleet;
pub mod forecast;
pub mod generation;
pub mod history;
mod listing;
pub mod locking;
pub mod metrics;
pub mod notify;
pub mod privilege;
pub mod problem;
pub mod publication;
pub mod published;
pub mod ready;
pub mod release;
pub mod report;
pub mod roster;
pub mod session;
mod size;
pub mod standstill;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod terminal;
pub mod tree;
pub mod volume;
