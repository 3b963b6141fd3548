//! What files hold, as far as it can be shown.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bento_protocol::{Digest, FilePath};
use serde::{Deserialize, Serialize};

use super::{Changes, Checksum};
use crate::publication::Snapshot;

/// The longest file that is shown, in bytes: nobody reads a longer one's differences.
const FILE_BYTES: u64 = 256 << 10;
/// The most bytes of all files together, so that the document stays within what memory and wire bear.
const ALL_BYTES: u64 = 16 << 20;

/// What a file holds. Of secrets nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileContent {
    /// Text.
    Text(String),
    /// Anything else.
    Binary,
    /// Too much to be shown.
    Large,
    /// What isn't kept any more.
    Gone,
}

/// Collects what is to be shown, each content once.
#[derive(Debug, Default)]
pub struct FileContents {
    found: BTreeMap<Digest, FileContent>,
    bytes: u64,
}

impl FileContents {
    /// Reads what changed files held in the one snapshot, and hold in the other.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn read(&mut self, changes: &Changes, old: &Snapshot, new: &Snapshot) -> io::Result<()> {
        for file in &changes.files {
            let (before, after) = (file.before.as_ref(), file.after.as_ref());
            // Only that it can be executed, or can't any more, is different.
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
        // What is gone from one machine may still be kept of another.
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

    /// What was found, by digest.
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
        // What the disk gives isn't what was published: nothing is better than something else.
        return Ok(FileContent::Gone);
    }
    let text = String::from_utf8(bytes).ok();
    let text = text.filter(|text| !text.contains('\0'));
    Ok(text.map_or(FileContent::Binary, FileContent::Text))
}
