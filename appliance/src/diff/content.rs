//! The contents of changed files, as far as they can be shown.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bento_protocol::{Digest, FilePath};
use serde::{Deserialize, Serialize};

use super::{Changes, Checksum};
use crate::publication::Snapshot;

/// The largest file whose contents are shown, in bytes.
const FILE_BYTES: u64 = 256 << 10;
/// The most bytes of all contents in a document.
const ALL_BYTES: u64 = 16 << 20;

/// The contents of a file. Contents of secrets are never kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileContent {
    /// Text.
    Text(String),
    /// Anything else.
    Binary,
    /// Too large to show.
    Large,
    /// Not kept any more.
    Gone,
}

/// Collects the contents to show, without duplicates.
#[derive(Debug, Default)]
pub struct FileContents {
    found: BTreeMap<Digest, FileContent>,
    bytes: u64,
}

impl FileContents {
    /// Reads the contents of changed files from both snapshots.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn read(&mut self, changes: &Changes, old: &Snapshot, new: &Snapshot) -> io::Result<()> {
        for file in &changes.files {
            let (before, after) = (file.before.as_ref(), file.after.as_ref());
            // Only the executable bit differs.
            let sums = [before, after].map(|side| side.and_then(|side| side.content));
            if sums[0] == sums[1] {
                continue;
            }
            for (sum, snapshot) in sums.into_iter().zip([old, new]) {
                if let Some(sum) = sum {
                    self.add(&file.path, sum, snapshot)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &FilePath, sum: Checksum, snapshot: &Snapshot) -> io::Result<()> {
        // Another machine may still have a file that is gone here.
        let known = self.found.get(&sum.sha256);
        if known.is_some_and(|known| *known != FileContent::Gone) {
            return Ok(());
        }
        let content = if sum.size > FILE_BYTES || self.bytes + sum.size > ALL_BYTES {
            FileContent::Large
        } else {
            content(path, sum, snapshot)?
        };
        if let FileContent::Text(text) = &content {
            self.bytes += text.len() as u64;
        }
        self.found.insert(sum.sha256, content);
        Ok(())
    }

    /// The contents by digest.
    pub fn into_found(self) -> BTreeMap<Digest, FileContent> {
        self.found
    }
}

fn content(path: &FilePath, sum: Checksum, snapshot: &Snapshot) -> io::Result<FileContent> {
    let Some(file) = snapshot.open(path)? else {
        return Ok(FileContent::Gone);
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if Digest::of(&bytes) != sum.sha256 {
        // The file on the disk is damaged; better no contents than wrong ones.
        return Ok(FileContent::Gone);
    }
    let text = String::from_utf8(bytes).ok();
    let text = text.filter(|text| !text.contains('\0'));
    Ok(text.map_or(FileContent::Binary, FileContent::Text))
}
