//! `bento-image build`: an archive for `podman load`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::archive;
use crate::date::SourceDate;
use crate::folder;
use crate::host::Host;
use crate::image::Image;
use crate::layer::Layer;
use crate::name::ImageName;
use crate::rootfs::Rootfs;

/// Build the image, and write it as an OCI archive for `podman load -i`
///
/// The image contains this machine's sshd and ssh-keygen, their libraries, and bento; no shell,
/// nothing else. The same inputs give the same bytes. SOURCE_DATE_EPOCH, in seconds since 1970,
/// sets the date of the image and of every file in it; the default is 1.
#[derive(Debug, Args)]
pub struct BuildCommand {
    /// The appliance's binary, for /usr/bin/bento in the image
    #[arg(long, value_name = "FILE", default_value = "target/release/bento")]
    binary: PathBuf,

    /// Use this folder as the image's root filesystem, instead of files of this machine
    #[arg(long, value_name = "DIR", conflicts_with = "binary")]
    rootfs: Option<PathBuf>,

    /// The archive to write; an existing one is replaced atomically
    #[arg(long, value_name = "FILE", default_value = "target/bento.oci.tar")]
    output: PathBuf,

    /// The name of the loaded image
    #[arg(
        long,
        value_name = "REGISTRY/NAME:TAG",
        default_value = "localhost/bento:latest"
    )]
    name: ImageName,
}

impl BuildCommand {
    /// Builds the image, writes it, and prints its digest and size.
    ///
    /// # Errors
    /// When a program or library is missing, a file can't be read, or the archive can't be written;
    /// an archive that was there before is then untouched.
    pub fn run(self) -> Result<()> {
        let date = SourceDate::from_environment()?;
        let (architecture, layers) = match &self.rootfs {
            Some(folder) => {
                let rootfs = Rootfs::prepared(folder::read(folder)?)?;
                let layer = Layer::pack(&rootfs.tree, "bento, OpenSSH and their libraries", date)?;
                (rootfs.architecture, vec![layer])
            }
            None => {
                let rootfs = Rootfs::gather(&Host::this(), &self.binary)?;
                let (below, top) = rootfs.split()?;
                let layers = vec![
                    Layer::pack(&below, "OpenSSH and all libraries", date)?,
                    Layer::pack(&top, "bento", date)?,
                ];
                (rootfs.architecture, layers)
            }
        };
        let layout = Image {
            name: self.name.clone(),
            architecture,
            date,
            layers,
        }
        .layout()?;
        let size = archive::write(&layout, &self.output)?;
        super::print(format_args!(
            "{}: {} {}, {}.{} MB",
            self.output.display(),
            self.name,
            layout.digest(),
            size / 1_000_000,
            size / 100_000 % 10,
        ))
    }
}
