//! `bento build`, `bento deploy` and `bento flake-update` with real Nix, in a store of their own. These tests need root and Nix, and
//! fail where one of them is missing.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there, with its line"
)]

mod advice;
mod builds;
mod deployments;
mod env;
mod existing;
mod interruption;
mod locks;
mod screen;
