//! Finds out that a disk is too full before an update does, and makes room where it may.

mod boot;
mod store;

use std::io;
use std::path::Path;

pub use boot::boot_has_room;
pub use store::{make_room, remove_old_systems};

use crate::settings::ByteSize;

/// Bytes free for everybody on the file system of a path, which may not exist yet. What some file systems reserve
/// for root doesn't count: Nix builds as other users, and reads the same number for its own `min-free`.
fn free_for_all(path: &Path) -> io::Result<ByteSize> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let mut tries = path.ancestors().map(|path| Ok(rustix::fs::statvfs(path)?));
    let found = tries.find(|result| !result.as_ref().is_err_and(is_missing));
    let space = found.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))?;
    Ok(ByteSize::new(space.f_bavail.saturating_mul(space.f_frsize)))
}

/// Bytes free for root on the file system of a path: a boot loader is installed as root.
fn free_for_root(path: &Path) -> io::Result<ByteSize> {
    let space = rustix::fs::statvfs(path)?;
    Ok(ByteSize::new(space.f_bfree.saturating_mul(space.f_frsize)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// A small disk, mounted for this thread and what it starts. It must go before the folder below which it is.
    pub(super) struct SmallDisk(PathBuf);

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            // If it fails, the kernel does it when the thread ends, and an empty folder is left.
            let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        }
    }

    #[must_use]
    pub(super) fn mount_small_disk(folder: &Path, mebibytes: u32) -> SmallDisk {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests mount small disks: run them as root"
        );
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let size = format!("size={mebibytes}m");
        std::fs::create_dir_all(folder).unwrap();
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .unwrap();
        SmallDisk(folder.to_owned())
    }

    #[test]
    fn what_is_free_is_what_df_says() {
        let folder = tempfile::tempdir().unwrap();
        let _disk = mount_small_disk(folder.path(), 64);
        std::fs::write(folder.path().join("file"), vec![1; 5 << 20]).unwrap();
        let df = Command::new("df")
            .args(["--block-size=1", "--output=avail"])
            .arg(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(df.stdout).unwrap();
        let avail: u64 = text.lines().last().unwrap().trim().parse().unwrap();
        assert_eq!(avail, 59 << 20);
        let missing = folder.path().join("nix/store");
        assert_eq!(free_for_all(&missing).unwrap().bytes(), avail);
        assert_eq!(free_for_root(folder.path()).unwrap().bytes(), avail);
    }
}
