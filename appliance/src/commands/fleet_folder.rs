use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::fleet::FILE_NAME;

/// Where the fleet folder is.
#[derive(Debug, clap::Args)]
pub struct FleetFolderOption {
    /// The fleet folder: the one that holds fleet.toml
    #[arg(long, value_name = "DIR", env = "BENTO_DIR")]
    fleet: Option<PathBuf>,
}

impl FleetFolderOption {
    /// The folder that was named, or the one in which somebody stands, or above that; in the container, /config.
    ///
    /// # Errors
    /// When there is no `fleet.toml`.
    pub fn find(&self) -> anyhow::Result<PathBuf> {
        if let Some(named) = &self.fleet {
            if !named.join(FILE_NAME).is_file() {
                bail!(
                    "{} holds no {FILE_NAME}: name a fleet folder, or make one with `bento init`",
                    named.display()
                );
            }
            return Ok(named.clone());
        }
        let here = std::env::current_dir().context("the current folder can't be found")?;
        let found = here
            .ancestors()
            .chain([Path::new("/config")])
            .find(|folder| folder.join(FILE_NAME).is_file());
        found.map(Path::to_owned).with_context(|| {
            format!(
                "there is no {FILE_NAME} in {} or above it: go to the fleet folder, name it with --fleet, or make one \
                 with `bento init`",
                here.display()
            )
        })
    }
}

/// The text of a fleet's `fleet.toml`.
///
/// # Errors
/// When it can't be read.
pub(super) fn read_settings(fleet: &Path) -> anyhow::Result<String> {
    let path = fleet.join(FILE_NAME);
    fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))
}

/// Why a file of the fleet folder can't be written, with what to do where it is a container that can't.
pub(super) fn unwritable(path: &Path, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            ": the appliance's container only reads the fleet folder. Run this where you edit it, or as \
             `podman run --rm --volume ~/fleet:/config localhost/bento …`"
        }
        _ => "",
    };
    anyhow::Error::new(error).context(format!("{} can't be written{advice}", path.display()))
}
