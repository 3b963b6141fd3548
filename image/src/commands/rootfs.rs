//! `bento-image rootfs`: the image's tree as a folder.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::folder;
use crate::host::Host;
use crate::rootfs;

/// Lays the image's tree out in a folder, for a Containerfile's last stage
///
/// `bento-image build --rootfs` makes an image of such a folder.
#[derive(Debug, Args)]
pub struct Rootfs {
    /// The appliance's binary, which becomes /usr/bin/bento
    #[arg(long, value_name = "FILE", default_value = "target/release/bento")]
    binary: PathBuf,

    /// The folder to make; it must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl Rootfs {
    /// Gathers the tree and writes it.
    ///
    /// # Errors
    /// When a program or library is missing, a file can't be read, or the folder can't be made.
    pub fn run(self) -> Result<()> {
        let rootfs = rootfs::Rootfs::gather(&Host::this(), &self.binary)?;
        folder::write(&rootfs.tree, &self.output)?;
        super::print(format_args!("{}: the image's tree", self.output.display()))
    }
}
