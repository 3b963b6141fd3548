//! The appliance's end of the wire: accounts, and one sshd for each connection.
//!
//! The appliance accepts connections itself. Each is first a guest in the lobby, where it costs one file
//! descriptor, and gets an sshd of its own once it has introduced itself and a slot is free: it is a session then.
//! Whose session it is, the kernel tells: every line that sshd logs arrives with the user id of the process that
//! wrote it, and sshd's child for a machine runs as that machine's account. The text of a line decides nothing.

mod command;
mod counters;
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
mod sshd_config;
mod tcp_info;

pub use command::Sshd;
pub use counters::SessionCounters;
pub use handshake::{OWN_ADDRESS, handshake, host_key_algorithms};
pub use host_key::HostKey;
pub use limits::Limits;
pub use log::Line;
pub use passwd::Login;
pub use pending_connections::Introduction;
pub use probe::is_shortage;
pub use reaper::reap;
pub use sessions::{Event, Sessions, listen};
