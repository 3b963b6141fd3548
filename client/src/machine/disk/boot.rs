use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bento_protocol::SystemPath;

use super::free_for_root;
use crate::machine::Machine;
use crate::settings::ByteSize;

/// For what a boot loader writes besides kernel and initrd, generously: its own program, the menu, and secrets that it
/// appends to an initrd.
const MARGIN: u64 = 8 << 20;

/// Below a boot folder, where NixOS' boot loaders put copies of kernels and initrds, and how the copies' names end:
/// systemd-boot, GRUB, and extlinux.
const COPIES: [(&str, &str); 3] = [("EFI/nixos", ".efi"), ("kernels", ""), ("nixos", "")];

/// Makes sure, before a system is activated, that its boot loader can write the kernel and the initrd. It runs out of
/// room halfway, otherwise, and has been seen to say that all went well (nixpkgs#189966).
pub fn boot_has_room(machine: &Machine, system: &SystemPath) -> anyhow::Result<()> {
    let new = new_parts(machine, system);
    for folder in machine.boot_folders() {
        if !has_copies(machine, &folder) {
            continue;
        }
        let bytes: u64 = new
            .iter()
            .filter(|part| !part.is_in(&folder))
            .map(|part| part.bytes)
            .sum();
        if bytes == 0 {
            continue;
        }
        let free = free_for_root(&folder)
            .with_context(|| format!("can't see how full {} is", folder.display()))?;
        if free.bytes() < bytes + MARGIN {
            bail!(
                "{} is too full for the new system: its kernel and initrd take {}, the boot loader's own files up to \
                 {}, and {free} are free. Remove old systems: `nix-env -p {profile} --delete-generations +2` and \
                 `{profile}/bin/switch-to-configuration boot`; then let NixOS keep fewer of them with \
                 boot.loader.systemd-boot.configurationLimit, or that of boot.loader.grub",
                folder.display(),
                ByteSize::new(bytes),
                ByteSize::new(MARGIN),
                profile = machine.profile().display()
            );
        }
    }
    Ok(())
}

/// A kernel or an initrd.
struct Part {
    path: PathBuf,
    bytes: u64,
}

impl Part {
    /// Whether a boot loader has copied it already, for another system.
    fn is_in(&self, folder: &Path) -> bool {
        let mut names = self.path.iter().rev().map(|name| name.to_string_lossy());
        let (Some(file), Some(package)) = (names.next(), names.next()) else {
            return false;
        };
        COPIES.iter().any(|(copies, ending)| {
            let copy = folder
                .join(copies)
                .join(format!("{package}-{file}{ending}"));
            // A copy that was cut short is written again.
            fs::metadata(copy).is_ok_and(|metadata| metadata.len() >= self.bytes)
        })
    }
}

/// Kernel and initrd of a system, where they aren't those of the running one. A container has none.
fn new_parts(machine: &Machine, system: &SystemPath) -> Vec<Part> {
    let running = machine.situation().running;
    let part = |name| {
        let path = fs::canonicalize(system.join(name)).ok()?;
        let bytes = fs::metadata(&path).ok()?.len();
        let present = running
            .as_ref()
            .and_then(|running| fs::canonicalize(running.join(name)).ok());
        (present.as_ref() != Some(&path)).then_some(Part { path, bytes })
    };
    ["kernel", "initrd"].into_iter().filter_map(part).collect()
}

/// Whether a boot loader copies kernels to a folder. It does to a disk that is mounted at /boot. One that is mounted
/// at /boot/efi or /efi may hold GRUB alone, and never a kernel, unless there are some already.
fn has_copies(machine: &Machine, folder: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let own = device(folder);
    let is_mounted = own.is_some() && own != folder.parent().and_then(device);
    let is_boot = machine
        .boot_folders()
        .first()
        .is_some_and(|boot| boot == folder);
    is_mounted
        && (is_boot
            || COPIES
                .iter()
                .any(|(copies, _)| folder.join(copies).is_dir()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::super::tests::mount_small_disk;
    use super::*;

    /// A machine that runs a system with a kernel of 1 MiB and an initrd of 2 MiB.
    fn machine() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["run", "boot/efi", "efi"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let running = system(root.path(), "running", ("old", 1), ("old", 2));
        symlink(running.as_str(), root.path().join("run/current-system")).unwrap();
        root
    }

    /// A system with a kernel and an initrd of a version and a size in MiB.
    fn system(root: &Path, name: &str, kernel: (&str, usize), initrd: (&str, usize)) -> SystemPath {
        let system = root.join(name);
        fs::create_dir(&system).unwrap();
        for (part, (version, mebibytes)) in [("kernel", kernel), ("initrd", initrd)] {
            let package = root.join(format!("{version}-{part}"));
            if !package.exists() {
                fs::create_dir(&package).unwrap();
                fs::write(package.join("image"), vec![1; mebibytes << 20]).unwrap();
            }
            symlink(package.join("image"), system.join(part)).unwrap();
        }
        system.to_str().unwrap().parse().unwrap()
    }

    fn check(root: &Path, system: &SystemPath) -> Result<(), String> {
        boot_has_room(&Machine::new(root), system).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_new_kernel_must_fit() {
        let root = machine();
        let root = root.path();
        let boot = root.join("boot");
        let _disk = mount_small_disk(&boot, 16);
        fs::write(boot.join("other"), vec![1; 4 << 20]).unwrap();
        let fits = system(root, "fits", ("new", 1), ("new", 3));
        assert_eq!(check(root, &fits), Ok(()));
        let large = system(root, "large", ("large", 2), ("new", 3));
        let error = check(root, &large).unwrap_err();
        for text in [
            "boot is too full",
            "take 5 MiB",
            "12 MiB are free",
            "configurationLimit",
        ] {
            assert!(error.contains(text), "{text:?} isn't in {error}");
        }

        // Only what isn't there already takes room.
        let same_kernel = system(root, "same-kernel", ("old", 1), ("other", 4));
        assert_eq!(check(root, &same_kernel), Ok(()));
        fs::create_dir(boot.join("kernels")).unwrap();
        let copy = boot.join("kernels/large-kernel-image");
        fs::write(&copy, "cut short").unwrap();
        check(root, &large).unwrap_err();
        fs::write(boot.join("other"), vec![1; 2 << 20]).unwrap();
        fs::write(&copy, vec![1; 2 << 20]).unwrap();
        assert_eq!(check(root, &large), Ok(()));
    }

    #[test]
    fn an_esp_counts_where_it_holds_kernels() {
        for place in ["boot/efi", "efi"] {
            let root = machine();
            let esp = root.path().join(place);
            let _disk = mount_small_disk(&esp, 8);
            let new = system(root.path(), "new", ("new", 1), ("new", 2));
            assert_eq!(check(root.path(), &new), Ok(()));
            fs::create_dir_all(esp.join("EFI/nixos")).unwrap();
            let error = check(root.path(), &new).unwrap_err();
            assert!(error.contains(&format!("{place} is too full")), "{error}");
        }
    }

    #[test]
    fn on_one_disk_with_the_store_nothing_is_copied() {
        let root = machine();
        let new = system(root.path(), "new", ("new", 1), ("new", 2));
        let _disk = mount_small_disk(&root.path().join("elsewhere"), 1);
        assert_eq!(check(root.path(), &new), Ok(()));
    }

    #[test]
    fn a_system_without_a_kernel_needs_no_room() {
        let root = machine();
        let _disk = mount_small_disk(&root.path().join("boot"), 1);
        let container = root.path().join("container");
        fs::create_dir(&container).unwrap();
        let container = container.to_str().unwrap().parse().unwrap();
        assert_eq!(check(root.path(), &container), Ok(()));
    }
}
