//! Identity and times of a file, to detect changes without reading it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;

/// State of a path: it changes when the file is written, replaced, removed or made readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathStamp(Option<Found>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    file: (u64, u64),
    size: u64,
    modified: SystemTime,
    changed: (i64, i64),
}

impl PathStamp {
    /// The stamp of a path; a missing file has one, too.
    pub fn of(path: &Path) -> Self {
        let found = |data: fs::Metadata| {
            Some(Found {
                file: (data.dev(), data.ino()),
                size: data.size(),
                modified: data.modified().ok()?,
                changed: (data.ctime(), data.ctime_nsec()),
            })
        };
        PathStamp(fs::symlink_metadata(path).ok().and_then(found))
    }

    /// The modification time; none if there is no file.
    pub fn modified(&self) -> Option<Timestamp> {
        Timestamp::try_from(self.0?.modified).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::atomic_file;

    #[test]
    fn each_kind_of_change_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut before = PathStamp::of(&path);
        let mut changes = |what: &str, change: &dyn Fn()| {
            change();
            let after = PathStamp::of(&path);
            assert_ne!(before, after, "{what}");
            assert_eq!(after, PathStamp::of(&path), "{what}");
            before = after;
        };
        changes("made", &|| atomic_file::write(&path, b"1").unwrap());
        // Of the same size, and replaced as the appliance does it.
        changes("replaced", &|| atomic_file::write(&path, b"2").unwrap());
        changes("grown", &|| fs::write(&path, "33").unwrap());
        changes("touched", &|| {
            let time = SystemTime::UNIX_EPOCH;
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        });
        assert_eq!(PathStamp::of(&path).modified(), Some(Timestamp::UNIX_EPOCH));
        changes("removed", &|| fs::remove_file(&path).unwrap());
    }
}
