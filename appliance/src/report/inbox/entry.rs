//! The folder of an inbox: its names and files, opened without following symlinks and without blocking.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, DirEntry, FileType, Mode, OFlags, Stat, fstat, open, openat, statat, unlinkat,
};
use rustix::io::Errno;

/// The most entries that are listed at a time, which limits the memory that a machine can take.
const LISTED: usize = 4096;

/// The folder of an inbox, held open.
pub(super) struct Inbox {
    folder: OwnedFd,
    path: PathBuf,
}

/// One entry of the inbox.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InboxEntry {
    /// The time of the last write, by the appliance's clock: the machine can't set it.
    modified: (i64, i64),
    /// Its name, which may hold anything but `/`.
    pub(super) name: CString,
}

impl Inbox {
    pub(super) fn open(logs: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Inbox {
            folder: open(logs, flags, Mode::empty())?,
            path: logs.to_owned(),
        })
    }

    /// The number of entries, counted up to `most`.
    pub(super) fn count(&self, most: usize) -> usize {
        Dir::read_from(&self.folder).map_or(0, |folder| {
            let names = folder.map_while(Result::ok).filter(is_entry);
            names.take(most).count()
        })
    }

    /// The entries in the order of their completion; those of the same tick of the clock by name.
    pub(super) fn entries(&self) -> io::Result<Vec<InboxEntry>> {
        let mut entries = Vec::new();
        for found in Dir::read_from(&self.folder)? {
            let found = found?;
            if !is_entry(&found) {
                continue;
            }
            if entries.len() == LISTED {
                break;
            }
            match statat(&self.folder, found.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => entries.push(InboxEntry {
                    modified: modified(&stat),
                    name: found.file_name().to_owned(),
                }),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// The content of an entry, at most `limit` bytes and one more; none when it isn't a regular file.
    pub(super) fn read(&self, entry: &InboxEntry, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode).is_file();
        // Checked before it is opened, because opening a device can have an effect; and after, because only then it is
        // certain what was opened. NONBLOCK: a FIFO would wait for a writer for ever.
        if !is_file(&statat(
            &self.folder,
            &entry.name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?) {
            return Ok(None);
        }
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.folder, &entry.name, flags, Mode::empty())?;
        if !is_file(&fstat(&file)?) {
            return Ok(None);
        }
        let mut content = Vec::new();
        File::from(file).take(limit + 1).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Removes an entry.
    pub(super) fn remove(&self, name: &CStr) -> io::Result<()> {
        match unlinkat(&self.folder, name, AtFlags::empty()) {
            // No machine can create a folder, but an administrator can. Symlinks out of the inbox aren't followed.
            Err(Errno::ISDIR) => {
                fs::remove_dir_all(self.path.join(OsStr::from_bytes(name.to_bytes())))
            }
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_entry(found: &DirEntry) -> bool {
    !matches!(found.file_name().to_bytes(), b"." | b"..")
}

impl InboxEntry {
    /// Its name for a log.
    pub(super) fn shown(&self) -> String {
        self.name.to_bytes().escape_ascii().to_string()
    }
}

// The types of the fields differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap)]
fn modified(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime as i64, stat.st_mtime_nsec as i64)
}
