//! Sessions as machines see them: a real sshd, the clients of OpenSSH, and only the capabilities that the container
//! has. These tests need root, to make namespaces, and fail without it.
#![allow(
    clippy::unwrap_used,
    reason = "what fails here should stop the test there, with its line"
)]

mod env;
mod gate;
mod libssh;
mod server;

mod crowd;
mod end;
mod enrolment;
mod inbox;
mod settings;
mod slow;
mod start;
