//! `bento status` as it is run: the real binary on a real state, on a terminal, in a pipe, and by way of a command.
#![allow(
    clippy::unwrap_used,
    reason = "what fails here should stop the test there, with its line"
)]

mod command;
mod place;
mod terminal;

mod elsewhere;
mod once;
mod watch;
