//! The machine outside of bento's own folder.

pub(crate) mod build;
pub(crate) mod confirm;
pub(crate) mod disk;
pub(crate) mod guard;
pub(crate) mod health;
pub(crate) mod inputs;
pub(crate) mod next_client;
pub(crate) mod reboot;
pub(crate) mod rollback_timer;
pub(crate) mod secrets;
pub(crate) mod switch;
pub(crate) mod trial_build;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bento_protocol::{Digest, SystemPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::health::HEALTH_FOLDER;

/// The paths of a machine, all below one root: `/`, unless it is a tree that was prepared elsewhere.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

/// Systems of a machine, which its owner may have changed without bento.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Situation {
    /// The running system.
    pub running: Option<SystemPath>,
    /// The specialisation that it is, if that is known.
    pub specialisation: Option<Specialisation>,
    /// The booted system.
    pub booted: Option<SystemPath>,
    /// The newest version of the profile, which boots next.
    pub profile: Option<SystemPath>,
    /// Id of this boot.
    pub boot: BootId,
    /// Whether kernel, initrd or kernel modules of what runs differ from the booted ones.
    pub reboot_required: bool,
    /// Until when its owner asked it to wait.
    pub held: Option<Timestamp>,
    /// A digest of /etc/machine-id.
    pub machine: Option<Digest>,
}

/// Reason not to keep a new system.
#[derive(Debug)]
pub struct Rejection {
    /// The fault.
    pub source: anyhow::Error,
    /// Whether another try may succeed though nothing changes in the fleet: it may be the network's fault, or the
    /// appliance's, or this machine's.
    pub retry: bool,
}

impl From<anyhow::Error> for Rejection {
    /// A fault of this machine: its disk, its processes.
    fn from(source: anyhow::Error) -> Self {
        Rejection {
            source,
            retry: true,
        }
    }
}

/// A specialisation that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specialisation {
    /// Its name.
    pub name: String,
    /// The known systems that have it; at least one.
    pub of: Vec<SystemPath>,
}

impl Situation {
    /// Whether the machine is on a system: it runs, or a specialisation of it does.
    pub fn is_on(&self, system: &SystemPath) -> bool {
        let specialisation = self.specialisation.as_ref();
        self.running.as_ref() == Some(system)
            || specialisation.is_some_and(|it| it.of.contains(system))
    }
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
    /// File of the kernel with the id of its boot.
    const BOOT_ID: &'static str = "proc/sys/kernel/random/boot_id";
    /// File of systemd with the id of the machine.
    const MACHINE_ID: &'static str = "etc/machine-id";
    /// The folder of a system's specialisations: a link each, by its name.
    const SPECIALISATIONS: &'static str = "specialisation";
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
        match bento_nix::variable("NIX_STORE_DIR") {
            Some(store) => store.into(),
            None => self.root.join("nix/store"),
        }
    }

    /// Mount points of disks from which the machine may boot; `/boot` comes first.
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

    /// File that contains `1` if a kernel is loaded for kexec.
    pub(crate) fn kexec_loaded(&self) -> PathBuf {
        self.root.join("sys/kernel/kexec_loaded")
    }

    /// The present systems of the machine.
    pub fn situation(&self) -> Situation {
        self.situation_with(Vec::new)
    }

    /// The same, where systems are known that aren't in the profile; they are asked for if what runs isn't what boots.
    pub fn situation_with(&self, known: impl FnOnce() -> Vec<SystemPath>) -> Situation {
        self.situation_of(self.running(), known)
    }

    /// The same, of a machine on which this system runs, or is about to.
    pub(crate) fn situation_of(
        &self,
        running: Option<SystemPath>,
        known: impl FnOnce() -> Vec<SystemPath>,
    ) -> Situation {
        let booted = self.system("run/booted-system");
        let profile = self.system("nix/var/nix/profiles/system");
        let specialisation = running
            .as_ref()
            .filter(|running| profile.as_ref() != Some(running))
            .and_then(|running| {
                let known = known().into_iter().chain(self.versions()).collect();
                specialisation_of(running, &known)
            });
        let differs = |system: &Option<SystemPath>| match (system, &booted) {
            (Some(system), Some(booted)) => differ_at_boot(system, booted),
            // A container wasn't booted by NixOS and has nothing to reboot into.
            _ => false,
        };
        // A boot leads to the system itself: where that was booted, another kernel of its specialisation wants none.
        let reboot_required = differs(&running) && (specialisation.is_none() || differs(&profile));
        Situation {
            running,
            specialisation,
            booted,
            profile,
            boot: self.boot(),
            reboot_required,
            held: None,
            machine: self.id(),
        }
    }

    /// The running system; none before the first activation of a boot has ended.
    pub(crate) fn running(&self) -> Option<SystemPath> {
        self.system("run/current-system")
    }

    /// The specialisation of a system by its name; none if the system doesn't have it.
    pub fn specialisation(&self, system: &SystemPath, name: &str) -> Option<SystemPath> {
        let path = fs::canonicalize(system.join(Self::SPECIALISATIONS).join(name)).ok()?;
        path.to_str()?.parse().ok()
    }

    /// The systems in the profile.
    fn versions(&self) -> Vec<SystemPath> {
        let profile = self.profile();
        let folder = profile
            .parent()
            .and_then(|folder| fs::read_dir(folder).ok());
        let names = folder.into_iter().flatten().flatten();
        names
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("system"))
            .filter_map(|entry| fs::canonicalize(entry.path()).ok()?.to_str()?.parse().ok())
            .collect()
    }

    /// The SHA-256 of the line `bento-machine 1 <id>`: it distinguishes machines, and hides the id, which
    /// machine-id(5) wants kept from the network. None where there is no id, or not yet.
    fn id(&self) -> Option<Digest> {
        let text = fs::read_to_string(self.root.join(Self::MACHINE_ID)).ok()?;
        let id = text.trim();
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_set = id.bytes().any(|byte| byte != b'0');
        (is_id && is_set).then(|| Digest::of(format!("bento-machine 1 {id}\n")))
    }

    fn boot(&self) -> BootId {
        // A root that is no whole machine has no /proc of its own, and boots with the one that it is on.
        let own = fs::read_to_string(self.root.join(Self::BOOT_ID));
        let id = own.or_else(|_| fs::read_to_string(Path::new("/").join(Self::BOOT_ID)));
        BootId::new(&id.unwrap_or_default())
    }

    fn system(&self, link: &str) -> Option<SystemPath> {
        Self::system_at(&self.root.join(link))
    }

    /// The system to which a path leads.
    pub(crate) fn system_at(path: &Path) -> Option<SystemPath> {
        let path = fs::canonicalize(path).ok()?;
        path.to_str()?.parse().ok()
    }
}

fn specialisation_of(running: &SystemPath, known: &BTreeSet<SystemPath>) -> Option<Specialisation> {
    let mut found: Option<Specialisation> = None;
    for system in known {
        let links = fs::read_dir(system.join(Machine::SPECIALISATIONS));
        let name = links.into_iter().flatten().flatten().find_map(|link| {
            let is_running = fs::canonicalize(link.path()).ok()? == Path::new(running.as_str());
            is_running.then(|| link.file_name().into_string().ok())?
        });
        match (name, &mut found) {
            (Some(_), Some(found)) => found.of.push(system.clone()),
            (Some(name), None) => {
                found = Some(Specialisation {
                    name,
                    of: vec![system.clone()],
                });
            }
            (None, _) => {}
        }
    }
    found
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

    // Issue 10, line 21.
    #[test]
    fn a_specialisation_is_known_by_name_and_its_kernel_wants_no_boot_of_the_system() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let system = |name: &str| path(name).to_str().unwrap().parse::<SystemPath>().unwrap();
        for (system, kernel) in [("old", "1"), ("console", "2"), ("new", "1"), ("newer", "3")] {
            fs::create_dir_all(path(system).join("specialisation")).unwrap();
            fs::write(path(kernel), "").unwrap();
            symlink(path(kernel), path(system).join("kernel")).unwrap();
            symlink(path("console"), path(system).join("specialisation/text")).unwrap();
        }
        fs::create_dir_all(path("run")).unwrap();
        fs::create_dir_all(path("nix/var/nix/profiles")).unwrap();
        let machine = Machine::new(root.path());
        symlink(path("old"), path("run/booted-system")).unwrap();
        symlink(path("console"), path("run/current-system")).unwrap();
        assert_eq!(machine.situation().specialisation, None);

        symlink(path("old"), path("nix/var/nix/profiles/system-1-link")).unwrap();
        symlink(path("new"), path("nix/var/nix/profiles/system-2-link")).unwrap();
        let profile = path("nix/var/nix/profiles/system");
        symlink("system-2-link", &profile).unwrap();
        let situation = machine.situation();
        let expected = Specialisation {
            name: "text".into(),
            of: vec![system("new"), system("old")],
        };
        assert_eq!(situation.specialisation, Some(expected));
        assert!(situation.is_on(&system("new")) && situation.is_on(&system("console")));
        assert!(!situation.is_on(&system("newer")));
        assert!(!situation.reboot_required);
        let situation = machine.situation_with(|| vec![system("newer")]);
        assert!(situation.is_on(&system("newer")));
        assert_eq!(
            machine.specialisation(&system("new"), "text"),
            Some(system("console"))
        );
        assert_eq!(machine.specialisation(&system("new"), "gone"), None);

        fs::remove_file(&profile).unwrap();
        symlink(path("newer"), &profile).unwrap();
        assert!(machine.situation().reboot_required);
    }

    // Issue 10, line 29.
    #[test]
    fn a_machine_is_identified_by_a_digest_of_its_id() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::new(root.path());
        fs::create_dir(root.path().join("etc")).unwrap();
        let digest_of = |id: &str| {
            fs::write(root.path().join("etc/machine-id"), id).unwrap();
            machine.situation().machine
        };
        let one = "0123456789abcdef0123456789abcdef\n";
        let digest = digest_of(one).unwrap();
        assert_eq!(digest, Digest::of(format!("bento-machine 1 {one}")));
        assert_ne!(
            Some(digest),
            digest_of("f123456789abcdef0123456789abcdef\n")
        );
        for none in ["", "uninitialized\n", &"0".repeat(32), "0123\n"] {
            assert_eq!(digest_of(none), None, "{none:?}");
        }
    }
}
