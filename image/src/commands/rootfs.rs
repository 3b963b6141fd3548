//! `bento-image rootfs`: the image's root filesystem as a folder.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::folder;
use crate::host::Host;
use crate::rootfs::Rootfs;

/// Write the image's root filesystem to a folder, for the last stage of a Containerfile
///
/// `bento-image build --rootfs` builds an image from such a folder.
#[derive(Debug, Args)]
pub struct RootfsCommand {
    /// The appliance's binary, for /usr/bin/bento in the image
    #[arg(long, value_name = "FILE", default_value = "target/release/bento")]
    binary: PathBuf,

    /// The folder to create; an existing one must be empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl RootfsCommand {
    /// Gathers the tree and writes it.
    ///
    /// # Errors
    /// When a program or library is missing, a file can't be read, or the folder can't be created.
    pub fn run(self) -> Result<()> {
        let rootfs = Rootfs::gather(&Host::this(), &self.binary)?;
        folder::write(&rootfs.tree, &self.output)?;
        super::print(format_args!(
            "{}: the image's root filesystem",
            self.output.display()
        ))
    }
}
