//! What is a guest's own, laid over the base tree.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Guest;
use super::network::Cable;
use crate::{artifacts, process};

/// Where root's channels are, for a machine without flakes.
const CHANNELS: &str = "upper/nix/var/nix/profiles/per-user/root/channels";

impl Guest {
    /// Lays what is this guest's own over the base tree.
    pub(super) fn provision(&self) -> Result<()> {
        for folder in [
            "work",
            "root",
            "upper/etc",
            "upper/opt/bento/bin",
            "upper/srv",
            CHANNELS,
        ] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        let upper = self.folder.join("upper");
        // Without one, systemd takes this for a first boot and asks for a root password.
        let machine_id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
        fs::write(upper.join("etc/machine-id"), machine_id)?;
        fs::write(upper.join("etc/hostname"), format!("{}\n", self.name))?;
        fs::copy(
            artifacts::binary("bento-client")?,
            upper.join("opt/bento/bin/bento-client"),
        )?;
        if let Some(disk) = self.features.disk {
            disk.make(&self.folder)?;
        }
        if self.features.network {
            Cable::of(&self.name).provision(&self.folder)?;
        }
        self.furnish_channels(&upper)
    }

    /// What stands in for the flakes and the channels of nixpkgs and of bento.
    fn furnish_channels(&self, upper: &Path) -> Result<()> {
        let (nixpkgs, bento) = ("srv/nixpkgs-stand-in", "srv/bento-stand-in");
        let tests = artifacts::repository().join("tests/nixpkgs-stand-in");
        copy(&tests, &upper.join(nixpkgs))?;
        copy(&tests.join("bento"), &upper.join(bento))?;
        let modules = artifacts::repository().join("nixos");
        copy(&modules, &upper.join(bento).join("nixos"))?;
        let channels = self.folder.join(CHANNELS);
        symlink(Path::new("/").join(nixpkgs), channels.join("nixos"))?;
        symlink(Path::new("/").join(bento), channels.join("bento"))?;
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["--recursive", "--no-dereference"])
        .arg(from)
        .arg(to);
    process::run(&mut copy, process::SHORT)?.success()?;
    Ok(())
}
