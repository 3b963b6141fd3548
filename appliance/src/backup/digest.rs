use bento_protocol::{Digest, Format};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::entry::{EntryKind, EntryPath};

/// The running digest of an archive's entries, the same for the writer and the reader.
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
    /// Adds an entry; a file with the digest of its contents.
    pub(super) fn add(&mut self, path: &EntryPath, kind: &EntryKind, content: Option<Digest>) {
        let what = match (kind, content) {
            (EntryKind::Folder, _) => "folder".to_owned(),
            (EntryKind::File(size), Some(content)) => format!("file {size} {content}"),
            (EntryKind::File(size), None) => format!("file {size}"),
            (EntryKind::Link(target), _) => format!("link {}", target.display()),
        };
        // Paths have no line breaks.
        self.lines
            .update(format!("{} {what}\n", path.as_path().display()));
        self.entries += 1;
    }

    /// The last entry for the archive.
    pub(super) fn end(self) -> ArchiveEnd {
        ArchiveEnd {
            format: Format,
            entries: self.entries,
            sha256: Digest::from_hasher(self.lines),
        }
    }
}
