//! A disk that keeps only synced content, and can be read as after a power cut.
//!
//! It is a file, mounted through a loop device. Content that the file system has only in memory isn't in that file, so a
//! copy of the file is the disk after a power cut. With these mount options the file system writes nothing by itself
//! during a test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use bento_tests::process::Output;
use bento_tests::wait;
use nix::mount::umount;

/// Enough space for some publications, and little enough for a quick copy.
const SIZE: u64 = 24 << 20;
/// A rename doesn't sync the content, content isn't written before its name, and there is no commit every 5 s: the weakest
/// guarantees of ext4.
const FORGETFUL: &str = "loop,noauto_da_alloc,data=writeback,commit=3600";

/// A mounted disk. Dropped, it is unmounted.
pub struct Disk {
    image: PathBuf,
    pub mounted: PathBuf,
}

/// A disk after a power cut.
pub struct Remains(PathBuf);

impl Disk {
    /// Creates an empty disk, and mounts it at a folder.
    pub fn make(image: &Path, at: &Path) -> Self {
        File::create(image).unwrap().set_len(SIZE).unwrap();
        let mut make = Command::new("mke2fs");
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        Output::of(make.args(["-q", "-t", "ext4", "-E", now]).arg(image)).with(0);
        Self::mount(image, at, FORGETFUL)
    }

    fn mount(image: &Path, at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        Output::of(
            Command::new("mount")
                .args(["-o", options])
                .args([image, at]),
        )
        .with(0);
        Disk {
            image: image.to_owned(),
            mounted: at.to_owned(),
        }
    }

    /// Syncs everything.
    pub fn sync(&self) {
        Output::of(Command::new("sync").arg("-f").arg(&self.mounted)).with(0);
    }

    /// The disk after a power cut now.
    pub fn remains(&self, image: PathBuf) -> Remains {
        Output::of(
            Command::new("cp")
                .arg("--sparse=always")
                .args([&self.image, &image]),
        )
        .with(0);
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
        wait::expect("the disk isn't used any more", || {
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
