//! `bento diff` and `bento logs`, run as an administrator runs them: on a state that the appliance's own code has made,
//! on another machine, behind a pipe, with a real Nix and without one.
#![allow(
    clippy::unwrap_used,
    reason = "what fails here should stop the test there, with its line"
)]

mod diff;
mod env;
mod logs;
