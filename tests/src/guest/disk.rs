//! A small file system of a guest's own, which can be filled up without filling this machine's.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Guest;
use crate::process::{self, Output};

/// Room for some systems on the stand-in for nixpkgs, and little enough to be filled in a moment.
const SIZE: u64 = 64 << 20;
/// What fills it.
const BALLAST: &str = "ballast-of-the-env";

/// What of a guest lies on a small disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// All that the client keeps: `/var/lib/bento`.
    State,
    /// All that Nix has, its database too: `/nix`.
    Store,
}

impl Disk {
    fn mount_point(self) -> &'static str {
        match self {
            Self::State => "/var/lib/bento",
            Self::Store => "/nix",
        }
    }

    /// Makes the disk's image; `tree.sh` mounts it at each boot, and moves into it what the guest has there.
    pub(super) fn make(self, folder: &Path) -> Result<()> {
        let image = folder.join("disk");
        File::create(&image)?.set_len(SIZE)?;
        let mut make = Command::new("mke2fs");
        // No block is kept for root, who runs the client.
        make.args(["-q", "-t", "ext4", "-m", "0"]).arg(&image);
        process::run(&mut make, process::SHORT)?.success()?;
        fs::write(folder.join("disk.at"), self.mount_point())?;
        Ok(())
    }
}

impl Guest {
    /// Fills the small disk, to the last byte.
    ///
    /// # Errors
    /// If this guest has none, or it can't be filled.
    pub fn fill(&self) -> Result<()> {
        // A second time, because the first piece that doesn't fit may be larger than what is left.
        self.with_ballast(
            "cat /dev/zero >\"$1\" 2>/dev/null || true; sync -f \"$1\"
             dd if=/dev/zero bs=512 status=none 2>/dev/null >>\"$1\" || true; sync -f \"$1\"",
        )?;
        Ok(())
    }

    /// Gives back what [`Guest::fill`] took.
    ///
    /// # Errors
    /// If this guest has no small disk.
    pub fn free(&self) -> Result<()> {
        self.with_ballast("rm -f \"$1\"; sync -f \"${1%/*}\"")?;
        Ok(())
    }

    fn with_ballast(&self, script: &str) -> Result<Output> {
        let disk = self
            .features
            .disk
            .context("this guest was booted without a small disk")?;
        let ballast = format!("{}/{BALLAST}", disk.mount_point());
        self.run(["sh", "-ec", script, "sh", &ballast])?.success()
    }
}
