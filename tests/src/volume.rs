//! A small filesystem for an appliance's state: one that can be filled, limited, and broken, without touching the
//! disk of this machine.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;
use tempfile::TempDir;

use crate::lifeline::Lifeline;
use crate::{Podman, process, wait};

/// Room for some generations of a small fleet, and little enough to be filled in a moment.
const SIZE: u64 = 32 << 20;
/// btrfs takes no less.
const BTRFS_SIZE: u64 = 128 << 20;
/// What fills a volume lies beside what the appliance has there.
const BALLAST: &str = "ballast-of-the-env";

/// Moves the disk `$1/disk` to a tmpfs of its own, `$1/thin`, whose room can be taken away below it.
const MAKE_THIN: &str = r#"
    mkdir "$1/thin"
    mount -t tmpfs -o size="$2" none "$1/thin"
    mv "$1/disk" "$1/thin/disk"
    ln -s thin/disk "$1/disk"
"#;
const END: &str = r#"
    umount --lazy "$1/mounted"
    umount --lazy "$1/thin"
    rm -rf "$1"
"#;
/// Takes all that is left: first at once, and then what is less than a piece of that.
const FILL: &str = r#"
    sync -f "${1%/*}"
    cat /dev/zero >>"$1" 2>/dev/null || true
    sync -f "$1"
    dd if=/dev/zero bs=512 status=none 2>/dev/null >>"$1" || true
    sync -f "$1"
"#;
/// Takes every inode.
const FILL_INODES: &str = r#"
    mkdir "$1"
    number=0
    while touch "$1/$number" 2>/dev/null; do number=$((number + 1)); done
"#;

/// A filesystem on a loop device, mounted in a folder of podman's user. It goes when this value is dropped, or when
/// this process dies.
#[derive(Debug)]
pub struct Volume {
    folder: TempDir,
    subvolume: Option<&'static str>,
    _lifeline: Lifeline,
}

impl Volume {
    /// One of 32 MiB, ext4.
    ///
    /// # Errors
    /// If this isn't root, or it can't be made.
    pub fn small() -> Result<Self> {
        Self::ext4(&[])
    }

    /// The same, with room for so many files and folders, including some 11 of its own.
    ///
    /// # Errors
    /// As [`Volume::small`].
    pub fn with_inodes(count: u32) -> Result<Self> {
        Self::ext4(&["-N", &count.to_string()])
    }

    /// The same, on a disk that can lose the room below it, see [`Volume::starve`].
    ///
    /// # Errors
    /// As [`Volume::small`].
    pub fn thin() -> Result<Self> {
        let volume = Self::unmounted(SIZE)?;
        let mut make = Command::new("sh");
        make.args(["-ec", MAKE_THIN, "sh"])
            .arg(volume.folder.path())
            .arg((SIZE + (2 << 20)).to_string());
        process::run(&mut make, process::SHORT)?.success()?;
        volume.make_ext4(&[])?;
        // Every block is there, also those that were never written; starving gives back only what is free.
        volume.run("fallocate", &["-l", &SIZE.to_string()], &volume.disk())?;
        volume.mount()?;
        Ok(volume)
    }

    /// One with a quota, which limits nothing yet, see [`Volume::limit`]; btrfs, because its quotas need nothing of a
    /// kernel that has btrfs.
    ///
    /// # Errors
    /// As [`Volume::small`].
    pub fn with_quota() -> Result<Self> {
        let mut volume = Self::unmounted(BTRFS_SIZE)?;
        volume.run("mkfs.btrfs", &["--quiet", "--mixed"], &volume.disk())?;
        volume.mount()?;
        volume.run("btrfs", &["quota", "enable"], &volume.mount_point())?;
        // One whose limit doesn't stand in the way of changing it.
        volume.subvolume = Some("limited");
        volume.run("btrfs", &["subvolume", "create"], &volume.root())?;
        volume.give_away()?;
        Ok(volume)
    }

    fn ext4(options: &[&str]) -> Result<Self> {
        let volume = Self::unmounted(SIZE)?;
        volume.make_ext4(options)?;
        volume.mount()?;
        Ok(volume)
    }

    fn unmounted(size: u64) -> Result<Self> {
        ensure!(
            Uid::effective().is_root(),
            "only root can mount a filesystem of its own: run this as root"
        );
        let folder = TempDir::with_prefix("bento-volume-")?;
        // Podman's user must get through.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        File::create(folder.path().join("disk"))?.set_len(size)?;
        fs::create_dir(folder.path().join("mounted"))?;
        let mut end = Command::new("sh");
        end.args(["-c", END, "sh"]).arg(folder.path());
        Ok(Self {
            _lifeline: Lifeline::tie(&end)?,
            folder,
            subvolume: None,
        })
    }

    fn make_ext4(&self, options: &[&str]) -> Result<()> {
        // No block is kept for root; nothing is left to be written later, or given back at once.
        let lazy = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        let usual = ["-q", "-t", "ext4", "-b", "4096", "-m", "0", "-E", lazy];
        self.run("mke2fs", &[&usual, options].concat(), &self.disk())
    }

    /// Mounts it; it then belongs to podman's user.
    fn mount(&self) -> Result<()> {
        let mut mount = Command::new("mount");
        mount
            .args(["-o", "loop"])
            .arg(self.disk())
            .arg(self.mount_point());
        process::run(&mut mount, process::SHORT)?.success()?;
        self.give_away()
    }

    fn give_away(&self) -> Result<()> {
        let (uid, gid) = Podman::new()?.ids();
        Ok(nix::unistd::chown(&self.root(), Some(uid), Some(gid))?)
    }

    /// The folder in which an appliance can keep its state.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.mount_point().join(self.subvolume.unwrap_or_default())
    }

    fn mount_point(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn ballast(&self) -> PathBuf {
        self.root().join(BALLAST)
    }

    /// Fills it until nothing more can be written.
    ///
    /// # Errors
    /// If a program fails.
    pub fn fill(&self) -> Result<()> {
        // What was removed before is only free once that is on the disk. The count of free blocks isn't exact: ext4
        // keeps one now and then that it gives to nobody.
        wait::until("the volume to be full", process::SHORT, || {
            self.takes_nothing_more().transpose()
        })?
    }

    /// Whether another attempt to fill it added nothing.
    fn takes_nothing_more(&self) -> Result<Option<()>> {
        let length = || fs::metadata(self.ballast()).map_or(0, |ballast| ballast.len());
        let before = length();
        self.run("sh", &["-ec", FILL, "sh"], &self.ballast())?;
        Ok((length() == before).then_some(()))
    }

    /// Fills it and leaves so many blocks of 4 KiB.
    ///
    /// # Errors
    /// If a program fails.
    pub fn fill_but(&self, blocks: u64) -> Result<()> {
        self.fill()?;
        let ballast = File::options().write(true).open(self.ballast())?;
        let full = ballast.metadata()?.len().next_multiple_of(4096);
        ballast.set_len(full - blocks * 4096)?;
        Ok(ballast.sync_all()?)
    }

    /// Takes every inode.
    ///
    /// # Errors
    /// If a program fails.
    pub fn fill_inodes(&self) -> Result<()> {
        self.run("sh", &["-c", FILL_INODES, "sh"], &self.ballast())
    }

    /// Gives back what filled it.
    ///
    /// # Errors
    /// If a program fails.
    pub fn free(&self) -> Result<()> {
        self.run("rm", &["-r"], &self.ballast())?;
        self.run("sync", &["-f"], &self.root())
    }

    /// Lets nothing more be written than what is there, by the quota; or anything again.
    ///
    /// # Errors
    /// If this volume has no quota.
    pub fn limit(&self, is_limited: bool) -> Result<()> {
        self.run("sync", &["-f"], &self.root())?;
        // 16 KiB: less than there is already.
        let limit = if is_limited { "16384" } else { "none" };
        // The first subvolume of a filesystem has always this number.
        self.run(
            "btrfs",
            &["qgroup", "limit", limit, "0/256"],
            &self.mount_point(),
        )
    }

    /// Lets every write to a block that was free fail, when it comes to the disk: writing a file still seems to succeed.
    ///
    /// # Errors
    /// If this volume isn't thin.
    pub fn starve(&self) -> Result<()> {
        let ballast = self.folder.path().join("thin").join(BALLAST);
        self.run("fstrim", &[], &self.root())?;
        self.run("sh", &["-ec", FILL, "sh"], &ballast)
    }

    /// Ends what [`Volume::starve`] began.
    ///
    /// # Errors
    /// If it didn't.
    pub fn feed(&self) -> Result<()> {
        Ok(fs::remove_file(
            self.folder.path().join("thin").join(BALLAST),
        )?)
    }

    /// Forgets what the kernel remembers of the content of all files below a folder: it is read from the disk again.
    ///
    /// # Errors
    /// If a program fails.
    pub fn forget_content(&self) -> Result<()> {
        let drop = r#"find "$1" -type f -exec dd if={} iflag=nocache count=0 status=none \;"#;
        self.run("sync", &["-f"], &self.root())?;
        self.run("sh", &["-ec", drop, "sh"], &self.root())
    }

    /// Makes the filesystem find an error in itself, after which it is read-only, as ext4 does with
    /// `errors=remount-ro`.
    ///
    /// # Errors
    /// If it isn't ext4.
    pub fn find_error(&self) -> Result<()> {
        self.run("mount", &["-o", "remount,errors=remount-ro"], &self.root())?;
        let mut findmnt = Command::new("findmnt");
        findmnt
            .args(["--noheadings", "--output=SOURCE"])
            .arg(self.root());
        let source = process::run(&mut findmnt, process::SHORT)?
            .success()?
            .stdout;
        let device = source.trim().rsplit('/').next().context("no device")?;
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(&trigger, "the env's").with_context(|| format!("cannot write {trigger}"))
    }

    /// Mends the filesystem and mounts it again. Nothing may use it.
    ///
    /// # Errors
    /// If something uses it, or it can't be mended.
    pub fn mend(&self) -> Result<()> {
        self.run("umount", &[], &self.root())?;
        let mut check = Command::new("e2fsck");
        check.args(["-f", "-p"]).arg(self.disk());
        // 1: it was mended.
        let checked = process::run(&mut check, process::SHORT)?;
        ensure!(
            checked.code() <= 1,
            "it can't be mended: {}",
            checked.stdout
        );
        self.mount()
    }

    fn run(&self, program: &str, options: &[&str], path: &PathBuf) -> Result<()> {
        let mut command = Command::new(program);
        command.args(options).arg(path);
        process::run(&mut command, process::SHORT)?.success()?;
        Ok(())
    }
}
