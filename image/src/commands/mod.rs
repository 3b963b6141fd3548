//! The commands, one a file: what each takes, and what it does with it.

pub mod build;
pub mod rootfs;
