//! Being root as far as one can: as root, or as the root of one's own user namespace.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nix::unistd::Uid;

use crate::{Podman, process};

/// How to run a program as root over the trees of guests.
#[derive(Debug, Clone)]
pub(super) enum Elevation {
    /// This process is root.
    Root,
    /// Podman has made a user namespace for this user already: `podman unshare` runs things in it.
    UserNamespace(Podman),
}

impl Elevation {
    pub(super) fn new() -> Result<Self> {
        if Uid::effective().is_root() {
            Ok(Self::Root)
        } else {
            Ok(Self::UserNamespace(Podman::new()?))
        }
    }

    pub(super) fn command(&self, program: &str) -> Command {
        match self {
            Self::Root => Command::new(program),
            Self::UserNamespace(podman) => {
                let mut command = podman.command();
                command.args(["unshare", program]);
                command
            }
        }
    }

    /// Removes a folder whose files may belong to the subordinate ids of this user.
    pub(super) fn remove(&self, folder: &Path) -> Result<()> {
        process::run(self.command("rm").arg("-rf").arg(folder), process::SHORT)?.success()?;
        Ok(())
    }
}
