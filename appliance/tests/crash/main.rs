//! Crashes of the appliance: the real binary is killed, or its disk's power cut, at every step that changes its state.
//! These tests need root, to make namespaces and file systems, and fail without it.
#![allow(
    clippy::unwrap_used,
    reason = "what fails here should stop the test there, with its line"
)]

mod appliance;
mod archive;
mod client;
mod disk;
mod env;
mod fleet;
mod inspection;
mod listing;
mod tracer;
mod trial;

mod intake;
mod kill;
mod power;

/// Whether every step is tried, as `make test-long` does it (see tests/long).
fn is_long() -> bool {
    std::env::var("BENTO_TESTS").is_ok_and(|form| form == "long")
}

/// The number of steps from one that is tried to the next.
fn stride() -> usize {
    if is_long() { 1 } else { 7 }
}
