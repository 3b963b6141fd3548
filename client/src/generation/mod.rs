//! A generation on its way to the disk: pulled, verified, staged.

pub mod archive;
pub(crate) mod folders;
pub(crate) mod list;
pub(crate) mod partial;
pub mod pull;
pub(crate) mod received;
pub mod stage;
pub mod staged;
pub mod verify;
