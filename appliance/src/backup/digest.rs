use bento_protocol::{Digest, Format};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::entry::{EntryKind, EntryPath};

/// What has gone through an archive so far, entry by entry: the same on both of its ends.
#[derive(Debug, Default)]
pub(super) struct ArchiveDigest {
    lines: sha2::Sha256,
    entries: u64,
}

/// The last entry of an archive.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArchiveEnd {
    format: Format,
    entries: u64,
    sha256: Digest,
}

impl ArchiveDigest {
    /// Notes an entry; of a file, with the digest of its content.
    pub(super) fn add(&mut self, path: &EntryPath, kind: &EntryKind, content: Option<Digest>) {
        let what = match (kind, content) {
            (EntryKind::Folder, _) => "folder".to_owned(),
            (EntryKind::File(size), Some(content)) => format!("file {size} {content}"),
            (EntryKind::File(size), None) => format!("file {size}"),
            (EntryKind::Link(target), _) => format!("link {}", target.display()),
        };
        // No path holds a line break.
        self.lines
            .update(format!("{} {what}\n", path.as_path().display()));
        self.entries += 1;
    }

    /// What the last entry must say.
    pub(super) fn end(self) -> ArchiveEnd {
        ArchiveEnd {
            format: Format,
            entries: self.entries,
            sha256: Digest::from_hasher(self.lines),
        }
    }
}
