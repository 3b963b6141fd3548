//! What of this machine lies outside of bento's own folder.

use std::fs;
use std::path::{Path, PathBuf};

use bento_protocol::SystemPath;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::health::HEALTH_FOLDER;

/// The paths of a machine, all below one root: `/`, unless it is a tree that was prepared elsewhere.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

/// What a machine runs, as far as its owner could have changed it without bento.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Situation {
    /// What runs.
    pub running: Option<SystemPath>,
    /// What was booted.
    pub booted: Option<SystemPath>,
    /// The newest version of the profile: what a boot leads to.
    pub profile: Option<SystemPath>,
    /// Which boot this is.
    pub boot: BootId,
    /// Whether kernel, initrd or kernel modules of what runs differ from the booted ones.
    pub reboot_required: bool,
    /// Until when its owner asked it to wait.
    pub held: Option<Timestamp>,
}

/// The kernel's name for the time between two boots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// A boot of that name.
    pub fn new(name: &str) -> Self {
        BootId(name.trim().to_owned())
    }
}

impl Machine {
    /// Where the kernel gives the id of its boot.
    const BOOT_ID: &'static str = "proc/sys/kernel/random/boot_id";
    /// The parts of a system that only a boot replaces.
    const BOOTED_PARTS: [&'static str; 3] = ["initrd", "kernel", "kernel-modules"];

    /// The machine whose file system begins at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Machine { root: root.into() }
    }

    /// The profile whose newest version is booted.
    pub fn profile(&self) -> PathBuf {
        self.root.join("nix/var/nix/profiles/system")
    }

    /// The Nix store.
    pub fn store(&self) -> PathBuf {
        match std::env::var_os("NIX_STORE_DIR") {
            Some(store) => store.into(),
            None => self.root.join("nix/store"),
        }
    }

    /// Where disks may be mounted from which the machine boots; `/boot` comes first.
    pub fn boot_folders(&self) -> [PathBuf; 3] {
        ["boot", "boot/efi", "efi"].map(|folder| self.root.join(folder))
    }

    /// Whether systemd is what runs this machine's services.
    pub fn has_systemd(&self) -> bool {
        // sd_booted(3) asks the same.
        self.root.join("run/systemd/system").is_dir()
    }

    /// The folder of the units of the system that runs.
    pub(crate) fn units(&self) -> PathBuf {
        self.root.join("etc/systemd/system")
    }

    /// The folder of health checks that anything on the machine may add to.
    pub fn health_checks(&self) -> PathBuf {
        self.root.join(HEALTH_FOLDER)
    }

    /// The folders in which systemd-boot may have its entries: NixOS mounts the boot partition at one of these.
    pub(crate) fn boot_entries(&self) -> [PathBuf; 3] {
        ["boot", "efi", "boot/efi"].map(|boot| self.root.join(boot).join("loader/entries"))
    }

    /// Says `1` when a kernel is loaded into which kexec would jump.
    pub(crate) fn kexec_loaded(&self) -> PathBuf {
        self.root.join("sys/kernel/kexec_loaded")
    }

    /// What the machine runs now.
    pub fn situation(&self) -> Situation {
        let running = self.system("run/current-system");
        let booted = self.system("run/booted-system");
        let reboot_required = match (&running, &booted) {
            (Some(running), Some(booted)) => differ_at_boot(running, booted),
            // A container wasn't booted by NixOS and has nothing to reboot into.
            _ => false,
        };
        Situation {
            running,
            booted,
            profile: self.system("nix/var/nix/profiles/system"),
            boot: self.boot(),
            reboot_required,
            held: None,
        }
    }

    fn boot(&self) -> BootId {
        // A root that is no whole machine has no /proc of its own, and boots with the one that it is on.
        let own = fs::read_to_string(self.root.join(Self::BOOT_ID));
        let id = own.or_else(|_| fs::read_to_string(Path::new("/").join(Self::BOOT_ID)));
        BootId::new(&id.unwrap_or_default())
    }

    fn system(&self, link: &str) -> Option<SystemPath> {
        let path = fs::canonicalize(self.root.join(link)).ok()?;
        path.to_str()?.parse().ok()
    }
}

fn differ_at_boot(one: &SystemPath, other: &SystemPath) -> bool {
    let part = |system: &SystemPath, name: &str| {
        fs::canonicalize(Path::new(system.as_str()).join(name)).ok()
    };
    Machine::BOOTED_PARTS
        .iter()
        .any(|name| part(one, name) != part(other, name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_new_kernel_wants_a_reboot_and_a_new_service_does_not() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for (system, kernel) in [
            ("old", "kernel-1"),
            ("same-kernel", "kernel-1"),
            ("new-kernel", "kernel-2"),
        ] {
            fs::create_dir_all(path(system)).unwrap();
            fs::write(path(kernel), "").unwrap();
            symlink(path(kernel), path(system).join("kernel")).unwrap();
        }
        fs::create_dir(path("run")).unwrap();
        let machine = Machine::new(root.path());
        assert_eq!(machine.situation().running, None);
        assert!(!machine.situation().reboot_required);

        symlink(path("old"), path("run/booted-system")).unwrap();
        for (running, reboot_required) in
            [("old", false), ("same-kernel", false), ("new-kernel", true)]
        {
            symlink(path(running), path("run/current-system")).unwrap();
            assert_eq!(
                machine.situation().reboot_required,
                reboot_required,
                "{running}"
            );
            fs::remove_file(path("run/current-system")).unwrap();
        }
    }
}
