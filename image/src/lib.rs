//! Assembles the OCI image of the bento appliance from this machine's OpenSSH and its libraries,
//! without a base image or a container tool.
//!
//! The pipeline: [`programs`] finds the programs, [`closure`] the files that they need, [`rootfs`]
//! collects them in a [`tree`], [`layer`] packs trees, [`image`] generates the OCI documents, and
//! [`archive`] writes the file for `podman load`.

// These macros panic if the output is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod archive;
pub mod closure;
pub mod commands;
pub mod date;
pub mod elf;
pub mod folder;
pub mod host;
pub mod image;
pub mod layer;
pub mod links;
pub mod name;
pub mod programs;
pub mod rootfs;
pub mod skeleton;
pub mod tree;
