//! The appliance, as this machine reaches it: the connection, the poll, and reports that are delivered.

pub mod connection;
pub(crate) mod delivery;
pub mod host_key;
pub mod identity;
pub(crate) mod poll;
mod proxy_command;
pub(crate) mod transport;
