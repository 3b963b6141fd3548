//! Access to the fleet folder, and to nothing outside of it.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// The most attempts to read a small file that changes while it is being read.
const TRIES: usize = 10;
const UNSTABLE: &str = "it changes while it is being read";

/// The open fleet folder: the kernel resolves paths below it, so that a symlink that is swapped while it is being
/// followed can't lead outside.
#[derive(Debug)]
pub struct FleetFolder {
    root: OwnedFd,
    /// Its absolute path, to make paths from the kernel relative.
    real_root: PathBuf,
}

/// An open entry below the fleet folder.
#[derive(Debug)]
pub struct Found {
    /// Opened with `O_PATH`.
    pub fd: OwnedFd,
    /// Relative to the fleet folder, without symlinks.
    pub real: PathBuf,
    /// Its metadata.
    pub stat: Stat,
}

/// A listed folder.
#[derive(Debug)]
pub struct Folder {
    /// Its stamp.
    pub stamp: Stamp,
    /// Its entries, sorted by name.
    pub entries: Vec<Entry>,
}

/// An entry of a folder.
#[derive(Debug)]
pub struct Entry {
    /// Its name: any bytes but a slash.
    pub name: Vec<u8>,
    /// Its stamp, without following a symlink.
    pub found: Result<Stamp, Errno>,
    /// Its target; none if it isn't a symlink.
    pub target: Option<PathBuf>,
}

/// Identity and times of a file, to detect changes: every change sets at least its ctime.
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
    /// The stamp of a file with this metadata.
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

    /// Its kind: a file, a folder, a symlink or something else.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Its device and inode, which no two existing files share.
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// The time of its last change of any kind.
    pub fn changed_at(&self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.changed.0).ok()?;
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::new(seconds, u32::try_from(self.changed.1).ok()?))
    }

    /// Whether its last change was at least this long ago; false for a time in the future.
    pub fn is_older_than(&self, age: Duration) -> bool {
        self.changed_at()
            .and_then(|changed| SystemTime::now().duration_since(changed).ok())
            .is_some_and(|since| since >= age)
    }

    /// Whether its owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

impl FleetFolder {
    /// Opens the fleet folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let real_root = real_path(&root)?;
        Ok(FleetFolder { root, real_root })
    }

    /// Opens the entry at a relative path, following relative symlinks that stay inside.
    pub fn find(&self, path: &Path) -> io::Result<Found> {
        let fd = self.resolve(path, OFlags::PATH, ResolveFlags::NO_MAGICLINKS)?;
        let real = real_path(&fd)?;
        let real = real
            .strip_prefix(&self.real_root)
            .map_err(|_| io::Error::from(Errno::XDEV))?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Found {
            real: real.to_owned(),
            fd,
            stat,
        })
    }

    /// Whether the folder was removed since it was mounted: a new folder at its path isn't visible from here.
    pub fn is_removed(&self) -> bool {
        self.real_root.as_os_str().as_bytes().ends_with(REMOVED)
    }

    /// The text of a small file, and its stamp, read without a change in between. Symlinks are followed only with
    /// `follow`.
    ///
    /// # Errors
    /// Also when it isn't a regular file, is longer than `limit` bytes, isn't UTF-8, or doesn't stop changing.
    pub fn text(&self, path: &Path, limit: u64, follow: bool) -> io::Result<(String, Stamp)> {
        for _ in 0..TRIES {
            let found = if follow {
                self.find(path)?
            } else {
                self.find_unfollowed(path)?
            };
            if let Some(text) = self.text_of(&found, limit)? {
                return Ok((text, Stamp::of(&found.stat)));
            }
        }
        Err(io::Error::other(UNSTABLE))
    }

    /// The text of an open file; none if it has changed since it was opened.
    pub fn text_of(&self, found: &Found, limit: u64) -> io::Result<Option<String>> {
        let bytes = self.bytes_of(found, limit)?;
        bytes.map(crate::fleet::decode).transpose()
    }

    /// The bytes of a small file, and its stamp, read like [`Self::text`] without following symlinks; none if the stamp
    /// is known.
    pub(super) fn bytes(
        &self,
        path: &Path,
        limit: u64,
        is_known: impl Fn(&Stamp) -> bool,
    ) -> io::Result<Option<(Vec<u8>, Stamp)>> {
        for _ in 0..TRIES {
            let found = self.find_unfollowed(path)?;
            let stamp = Stamp::of(&found.stat);
            if is_known(&stamp) {
                return Ok(None);
            }
            if let Some(bytes) = self.bytes_of(&found, limit)? {
                return Ok(Some((bytes, stamp)));
            }
        }
        Err(io::Error::other(UNSTABLE))
    }

    fn bytes_of(&self, found: &Found, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match FileType::from_raw_mode(found.stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(io::Error::other("it is a symlink")),
            _ => return Err(io::Error::other("it isn't a file")),
        }
        let mut bytes = Vec::new();
        let mut file = match self.read(&found.real) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        file.by_ref().take(limit + 1).read_to_end(&mut bytes)?;
        if Stamp::of(&rustix::fs::fstat(&file)?) != Stamp::of(&found.stat) {
            return Ok(None);
        }
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it is longer than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Whether a path names a symlink.
    pub fn is_link(&self, path: &Path) -> bool {
        let found = self.find_unfollowed(path);
        found.is_ok_and(|found| FileType::from_raw_mode(found.stat.st_mode).is_symlink())
    }

    fn find_unfollowed(&self, path: &Path) -> io::Result<Found> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = self.resolve(path, flags, ResolveFlags::NO_SYMLINKS)?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Found {
            real: path.to_owned(),
            fd,
            stat,
        })
    }

    /// Opens a file for reading at a path without symlinks, as [`TreeFile::real`](super::TreeFile::real) is.
    pub fn read(&self, real: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.resolve(real, flags, ResolveFlags::NO_SYMLINKS)
            .map(File::from)
    }

    /// Lists a folder at a path without symlinks.
    pub fn list(&self, real: &Path) -> io::Result<Folder> {
        // The kernel resolves no empty path.
        let path = if real == Path::new("") {
            Path::new(".")
        } else {
            real
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = self.resolve(path, flags, ResolveFlags::NO_SYMLINKS)?;
        let stamp = Stamp::of(&rustix::fs::fstat(&folder)?);
        let mut folder = rustix::fs::Dir::new(folder)?;
        let mut names = Vec::new();
        for entry in &mut folder {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        let folder = folder.fd()?;
        let names = names.into_iter();
        let entries = names.map(|name| Entry::find(folder, name)).collect();
        Ok(Folder { stamp, entries })
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
                // A concurrent rename: the kernel asks to try again.
                Err(Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Entry {
    fn find(folder: BorrowedFd<'_>, name: Vec<u8>) -> Self {
        let found = rustix::fs::statat(folder, &name[..], AtFlags::SYMLINK_NOFOLLOW);
        let found = found.map(|stat| Stamp::of(&stat));
        let target = match found {
            Ok(stamp) if stamp.kind() == FileType::Symlink => {
                rustix::fs::readlinkat(folder, &name[..], Vec::new()).map(Some)
            }
            _ => Ok(None),
        };
        let path = |text: CString| PathBuf::from(OsString::from_vec(text.into_bytes()));
        match target {
            Ok(target) => Entry {
                name,
                found,
                target: target.map(path),
            },
            Err(error) => Entry {
                name,
                // Replaced meanwhile, which counts as removed.
                found: Err(if error == Errno::INVAL {
                    Errno::NOENT
                } else {
                    error
                }),
                target: None,
            },
        }
    }
}

/// The kernel's suffix for the path of a removed file.
const REMOVED: &[u8] = b" (deleted)";

/// The kernel's path of an open file.
fn real_path(fd: &impl AsFd) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}
