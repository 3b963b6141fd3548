//! A disk that keeps only what was synced, and whose content can be looked at as after a power cut.
//!
//! It is a file, mounted through a loop device. What the file system still holds in memory isn't in that file, so that
//! a copy of it is what a power cut would leave. The mount options keep the file system from writing anything of its
//! own accord while a test lasts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::mount::umount;

use crate::apart::until;
use crate::env::run;

/// Room for some publications, and little enough to be copied in a moment.
const SIZE: u64 = 24 << 20;
/// A rename doesn't bring the file's content along, content isn't written before what names it, and nothing is
/// committed every 5 s: the least that ext4 can promise.
const FORGETFUL: &str = "loop,noauto_da_alloc,data=writeback,commit=3600";

/// A disk that is mounted. Dropped, it is unmounted.
pub struct Disk {
    image: PathBuf,
    pub mounted: PathBuf,
}

/// What a power cut leaves of a disk.
pub struct Remains(PathBuf);

impl Disk {
    /// Makes an empty one, and mounts it at a folder.
    pub fn make(image: &Path, at: &Path) -> Self {
        File::create(image).unwrap().set_len(SIZE).unwrap();
        let mut make = Command::new("mke2fs");
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        run(make.args(["-q", "-t", "ext4", "-E", now]).arg(image));
        Self::mount(image, at, FORGETFUL)
    }

    fn mount(image: &Path, at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run(Command::new("mount")
            .args(["-o", options])
            .args([image, at]));
        Disk {
            image: image.to_owned(),
            mounted: at.to_owned(),
        }
    }

    /// Brings all to the disk.
    pub fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.mounted));
    }

    /// What would be left if the power were cut now.
    pub fn remains(&self, image: PathBuf) -> Remains {
        run(Command::new("cp")
            .arg("--sparse=always")
            .args([&self.image, &image]));
        Remains(image)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if thread::panicking() {
            // It may be in use, and goes with the test's namespaces.
            return;
        }
        // A session of an appliance that was killed may be about to end.
        until("the disk isn't used any more", || {
            umount(&self.mounted).ok()
        });
    }
}

impl Remains {
    /// Mounts the disk after the power has come back: the journal is replayed.
    pub fn mount(&self, at: &Path) -> Disk {
        Disk::mount(&self.0, at, "loop")
    }
}
