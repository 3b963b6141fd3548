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

use std::time::{Duration, Instant};

/// Whatever the tests wait for comes much sooner.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must come, however slow this machine is.
fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
