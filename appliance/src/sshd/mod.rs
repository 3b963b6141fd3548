//! The sshd front end: accounts, and one sshd for each connection.
//!
//! The appliance accepts connections itself. Each is pending, at the cost of one file descriptor, until a slot is free;
//! then it gets an sshd of its own and is a session. The kernel names the session's machine: each line that sshd logs
//! arrives with the user id of the process that wrote it, and sshd's child for a machine runs as that machine's
//! account. The text of a line decides nothing.

mod command;
mod counters;
mod event;
mod handshake;
mod host_key;
mod limits;
mod listener;
mod log;
pub mod passwd;
mod pending_connections;
mod poll;
mod probe;
mod process;
mod reaper;
mod reason;
mod session_table;
mod sessions;
mod shared;
mod sshd_config;

pub use command::Sshd;
pub use counters::SessionCounters;
pub use event::SessionEvent;
pub use handshake::{OWN_ADDRESS, handshake, host_key_algorithms};
pub use host_key::HostKey;
pub use limits::SessionLimits;
pub use log::Line;
pub use passwd::Login;
pub use probe::is_shortage;
pub use reaper::reap;
pub use sessions::{Sessions, listen};
