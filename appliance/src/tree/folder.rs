//! Opens what lies in the fleet folder, and never anything outside of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};

/// The fleet folder, held open: paths are resolved below it by the kernel, so that a symlink that is swapped while
/// it is being followed can't lead outside.
#[derive(Debug)]
pub struct FleetFolder {
    root: OwnedFd,
    /// Where it lies, to turn the kernel's answers into relative paths.
    real_root: PathBuf,
}

/// Something below the fleet folder that was found and is pinned.
#[derive(Debug)]
pub struct Found {
    /// Opened with `O_PATH`.
    pub fd: OwnedFd,
    /// Relative to the fleet folder, without symlinks.
    pub real: PathBuf,
    /// What it is.
    pub stat: Stat,
}

/// What tells whether a file is still the same: any change moves at least its ctime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    /// In bytes.
    pub size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
    mode: u32,
}

impl Stamp {
    /// The stamp of a file of which this is the metadata.
    pub fn of(stat: &Stat) -> Self {
        Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode,
        }
    }

    /// When it last changed in any way.
    pub fn changed_at(&self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.changed.0).ok()?;
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::new(seconds, u32::try_from(self.changed.1).ok()?))
    }

    /// Whether its owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

impl FleetFolder {
    /// Opens the fleet folder itself.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let real_root = real_path(&root)?;
        Ok(FleetFolder { root, real_root })
    }

    /// Finds what a relative path names, following relative symlinks that stay inside.
    pub fn find(&self, path: &Path) -> io::Result<Found> {
        let fd = self.resolve(path, OFlags::PATH, ResolveFlags::NO_MAGICLINKS)?;
        let real = real_path(&fd)?;
        let real = real
            .strip_prefix(&self.real_root)
            .map_err(|_| io::Error::from(rustix::io::Errno::XDEV))?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Found {
            real: real.to_owned(),
            fd,
            stat,
        })
    }

    /// Opens a file for reading at a path without symlinks, as [`Found::real`] is.
    pub fn read(&self, real: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.resolve(real, flags, ResolveFlags::NO_SYMLINKS)
            .map(File::from)
    }

    fn resolve(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::BENEATH;
        loop {
            match rustix::fs::openat2(
                &self.root,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                // The kernel couldn't be sure because something was renamed meanwhile, and asks to try again.
                Err(rustix::io::Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
    }
}

/// The names in a folder that was found, without `.` and `..`, sorted.
pub fn names(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let readable = rustix::fs::openat(
        folder,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(readable)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What an entry of a folder is, without following it.
pub fn entry_stat(folder: &OwnedFd, name: &str) -> io::Result<Stat> {
    Ok(rustix::fs::statat(
        folder,
        name,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// The text of a symlink in a folder.
pub fn link_target(folder: &OwnedFd, name: &str) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

/// Where the kernel says that an open file lies.
fn real_path(fd: &impl AsFd) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}
