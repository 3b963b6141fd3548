//! Storage: the paths of `/state` and `/run`, atomic files, accounts, owners and modes.

pub mod accounts;
pub mod atomic_file;
pub mod change_lock;
pub mod machines;
pub mod paths;
pub mod permissions;
pub mod stamp;
