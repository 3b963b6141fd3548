//! Assembles the OCI image of the bento appliance from the OpenSSH of the machine it runs on and
//! the libraries that it needs. No base image and no container tool is involved.
//!
//! The way through: [`programs`] finds what the image runs, [`closure`] what those files need,
//! [`rootfs`] lays it all into one [`tree`], [`layer`] packs trees, [`image`] describes them as OCI
//! wants it, and [`archive`] writes the one file that `podman load` takes.

// They panic where nobody reads any more what is printed.
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
