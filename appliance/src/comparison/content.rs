//! What files hold, as far as it can be shown.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bento_protocol::{Area, Digest, FilePath};
use serde::{Deserialize, Serialize};

use super::{Changes, Side};
use crate::publication::Snapshot;

/// The longest file that is shown, in bytes: nobody reads a longer one's differences.
const FILE_BYTES: u64 = 256 << 10;
/// The most bytes of all files together, so that the document stays within what memory and wire bear.
const ALL_BYTES: u64 = 16 << 20;

/// What a file holds. Of secrets nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
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
pub struct Contents {
    found: BTreeMap<Digest, Content>,
    bytes: u64,
}

impl Contents {
    /// Reads what changed files held in the one snapshot, and hold in the other.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn read(&mut self, changes: &Changes, old: &Snapshot, new: &Snapshot) -> io::Result<()> {
        for file in &changes.files {
            let (before, after) = (file.before.as_ref(), file.after.as_ref());
            // Only that it can be executed, or can't any more, is different.
            if before.map(|side| side.sha256) == after.map(|side| side.sha256) {
                continue;
            }
            for (side, snapshot) in [(before, old), (after, new)] {
                if let Some(side) = side.filter(|_| file.path.area() == Area::Config) {
                    self.look(&file.path, side, snapshot)?;
                }
            }
        }
        Ok(())
    }

    fn look(&mut self, path: &FilePath, side: &Side, snapshot: &Snapshot) -> io::Result<()> {
        // What is gone from one machine may still be kept of another.
        let known = self.found.get(&side.sha256);
        if known.is_some_and(|known| *known != Content::Gone) {
            return Ok(());
        }
        let content = if side.size > FILE_BYTES || self.bytes + side.size > ALL_BYTES {
            Content::Large
        } else {
            content(path, side, snapshot)?
        };
        if let Content::Text(text) = &content {
            self.bytes += text.len() as u64;
        }
        self.found.insert(side.sha256, content);
        Ok(())
    }

    /// What was found, by digest.
    pub fn into_found(self) -> BTreeMap<Digest, Content> {
        self.found
    }
}

fn content(path: &FilePath, side: &Side, snapshot: &Snapshot) -> io::Result<Content> {
    let Some(file) = snapshot.open(path)? else {
        return Ok(Content::Gone);
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if Digest::of(&bytes) != side.sha256 {
        // What the disk gives isn't what was published: nothing is better than something else.
        return Ok(Content::Gone);
    }
    let text = String::from_utf8(bytes).ok();
    let text = text.filter(|text| !text.contains('\0'));
    Ok(text.map_or(Content::Binary, Content::Text))
}
