//! `bento-image build`: one file for `podman load`.

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

/// Builds the image and writes it as one OCI archive, for `podman load -i`
///
/// The image holds this machine's own sshd and ssh-keygen, the libraries that they need, and bento;
/// no shell, nothing else. The same inputs give the same bytes. SOURCE_DATE_EPOCH, in seconds since
/// 1970, is the date of the image and of every file in it; without it, 1.
#[derive(Debug, Args)]
pub struct Build {
    /// The appliance's binary, which becomes /usr/bin/bento
    #[arg(long, value_name = "FILE", default_value = "target/release/bento")]
    binary: PathBuf,

    /// Take this folder as the image's tree, instead of gathering one from this machine
    #[arg(long, value_name = "DIR", conflicts_with = "binary")]
    rootfs: Option<PathBuf>,

    /// The archive to write; it is replaced in one step
    #[arg(long, value_name = "FILE", default_value = "target/bento.oci.tar")]
    output: PathBuf,

    /// The name that the image has once it is loaded
    #[arg(
        long,
        value_name = "REGISTRY/NAME:TAG",
        default_value = "localhost/bento:latest"
    )]
    name: ImageName,
}

impl Build {
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
