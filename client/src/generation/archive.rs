//! Reads an archive that a server gave, and lets nothing pass that its manifest doesn't list.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use anyhow::Context;
use bento_nix::normal::the_time;
use bento_protocol::stream::Head;
use bento_protocol::{DeltaError, Digest, File, GenerationId, HostName, ManifestEntry, Symlink};
use flate2::read::GzDecoder;
use sha2::Digest as _;
use tar::EntryType;

use crate::generation::list;
use crate::generation::partial::Partial;
use crate::generation::staged::Staged;

/// The generation that an archive must hold.
pub struct Wanted<'a> {
    /// The machine that it is for.
    pub host: &'a HostName,
    /// The generation that was polled.
    pub generation: GenerationId,
    /// The generation from which a delta leads there; none for the bundle.
    pub base: Option<&'a Staged>,
}

/// Why an archive wasn't unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It isn't what it must be, or couldn't be read to its end.
    #[error("{0:#}")]
    Invalid(anyhow::Error),
    /// This machine's disk didn't take a file.
    #[error("{0:#}")]
    Disk(anyhow::Error),
}

impl From<DeltaError> for ArchiveError {
    fn from(error: DeltaError) -> Self {
        ArchiveError::Invalid(error.into())
    }
}

/// How many bytes of files were written, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// The most bytes of the archive format between two files: padding, a header, and a long name with headers of its own.
const BETWEEN_FILES: u64 = 16 << 10;
/// The most bytes after the last file: the format's end and the padding to a full record, all zeros.
const AFTER_FILES: u64 = 64 << 10;
/// How much of a file is hashed and written at a time.
const PIECE: usize = 64 << 10;

/// Unpacks a bundle, or a delta, into `partial`. Every file in it was checked against the manifest when this
/// succeeds, and the manifest is that of the generation wanted. Nothing of a file is written before that is known.
pub fn unpack(
    archive: impl Read,
    wanted: &Wanted<'_>,
    partial: &Partial,
    progress: Progress<'_>,
) -> Result<Head, ArchiveError> {
    let invalid = ArchiveError::Invalid;
    let allowance = Rc::new(Cell::new(0));
    let bounded = Bounded {
        inner: GzDecoder::new(archive),
        allowance: Rc::clone(&allowance),
    };
    let mut archive = tar::Archive::new(bounded);
    let mut entries = Entries {
        entries: archive.entries().map_err(|error| invalid(error.into()))?,
        allowance: Rc::clone(&allowance),
        count: 0,
    };
    let head = entries.head(wanted, partial)?;
    manifest::assemble(&head, wanted, partial)?;
    let carried = || list::read::<ManifestEntry>(&partial.carried()).map_err(ArchiveError::Disk);
    let total = carried()?
        .filter_map(Result::ok)
        .fold(0, |total: u64, file| total.saturating_add(file.size()));
    let mut written = 0;
    for file in carried()? {
        let file = file.map_err(ArchiveError::Disk)?;
        match &file {
            ManifestEntry::File(file) => entries.file(file, partial, &mut |bytes| {
                written += bytes;
                progress(written, total);
            })?,
            ManifestEntry::Symlink(link) => entries.symlink(link, partial)?,
        }
    }
    entries.end().map_err(invalid)?;
    allowance.set(AFTER_FILES);
    drain(archive.into_inner()).map_err(invalid)?;
    Ok(head)
}

struct Entries<'a, R: Read> {
    entries: tar::Entries<'a, Bounded<R>>,
    allowance: Rc<Cell<u64>>,
    count: usize,
}

type Entry<'a, R> = tar::Entry<'a, Bounded<R>>;

impl<'a, R: Read> Entries<'a, R> {
    /// The next entry, which must have this name and be of this type: a regular file or a symlink.
    fn next(&mut self, name: &str, wanted: EntryType) -> anyhow::Result<Entry<'a, R>> {
        self.allowance.set(BETWEEN_FILES);
        self.count += 1;
        let entry = match self.entries.next() {
            Some(entry) => {
                entry.with_context(|| format!("its entry {} can't be read", self.count))?
            }
            None => anyhow::bail!("it ends where {name:?} must follow"),
        };
        let found = entry.path_bytes();
        anyhow::ensure!(
            *found == *name.as_bytes(),
            "its entry {} is {:?}, where {name:?} must be",
            self.count,
            String::from_utf8_lossy(&found)
        );
        let kind = entry.header().entry_type();
        // Old archives have other types for a regular file.
        let is_wanted = match wanted {
            EntryType::Regular => kind.is_file(),
            _ => kind == wanted,
        };
        let wanted = match wanted {
            EntryType::Symlink => "a symlink",
            _ => "a regular file",
        };
        anyhow::ensure!(
            is_wanted,
            "its entry {name:?} is of type {kind:?}, not {wanted}"
        );
        drop(found);
        Ok(entry)
    }

    fn file(
        &mut self,
        file: &File,
        partial: &Partial,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let entry = self
            .next(file.path.as_str(), EntryType::Regular)
            .map_err(ArchiveError::Invalid)?;
        if entry.size() != file.size {
            return Err(ArchiveError::Invalid(anyhow::anyhow!(
                "its {} has {} bytes, and the manifest says {}",
                file.path,
                entry.size(),
                file.size
            )));
        }
        self.allowance.set(file.size);
        let mut target = partial.create(file).map_err(ArchiveError::Disk)?;
        let digest = copy(entry, &mut target, file, progress)?;
        if digest != file.sha256 {
            return Err(ArchiveError::Invalid(anyhow::anyhow!(
                "its {} has the digest {digest}, and the manifest says {}",
                file.path,
                file.sha256
            )));
        }
        target
            .set_modified(the_time())
            .with_context(|| format!("can't set the time of {}", file.path))
            .map_err(ArchiveError::Disk)
    }

    /// Makes a symlink of the manifest, if that is what the next entry is.
    fn symlink(&mut self, link: &Symlink, partial: &Partial) -> Result<(), ArchiveError> {
        let mut is_next = || {
            let entry = self.next(link.path().as_str(), EntryType::Symlink)?;
            anyhow::ensure!(
                entry.size() == 0,
                "its symlink {} has a content",
                link.path()
            );
            let found = entry.link_name_bytes().unwrap_or_default();
            anyhow::ensure!(
                *found == *link.target().as_bytes(),
                "its symlink {} leads to {:?}, and the manifest says {:?}",
                link.path(),
                String::from_utf8_lossy(&found),
                link.target()
            );
            Ok(())
        };
        is_next().map_err(ArchiveError::Invalid)?;
        partial.symlink(link).map_err(ArchiveError::Disk)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.allowance.set(BETWEEN_FILES);
        match self.entries.next() {
            None => Ok(()),
            Some(Ok(entry)) => anyhow::bail!(
                "it has an entry {:?}, which the manifest doesn't list",
                String::from_utf8_lossy(&entry.path_bytes())
            ),
            Some(Err(error)) => Err(error).context("its end can't be read"),
        }
    }
}

/// Copies the content of a file of known size, and gives its digest.
fn copy(
    mut from: impl Read,
    to: &mut impl Write,
    file: &File,
    progress: &mut dyn FnMut(u64),
) -> Result<Digest, ArchiveError> {
    let mut hasher = sha2::Sha256::new();
    let mut piece = [0; PIECE];
    let mut missing = file.size;
    while missing > 0 {
        let most = piece
            .len()
            .min(usize::try_from(missing).unwrap_or(usize::MAX));
        let count = from
            .read(&mut piece[..most])
            .with_context(|| format!("its {} can't be read", file.path))
            .map_err(ArchiveError::Invalid)?;
        if count == 0 {
            return Err(ArchiveError::Invalid(anyhow::anyhow!(
                "it ends within {}",
                file.path
            )));
        }
        hasher.update(&piece[..count]);
        to.write_all(&piece[..count])
            .with_context(|| format!("can't write {}", file.path))
            .map_err(ArchiveError::Disk)?;
        missing -= count as u64;
        progress(count as u64);
    }
    Ok(Digest::from_hasher(hasher))
}

/// Reads to the end of the compressed data, so that its checksum is verified.
fn drain(mut rest: impl Read) -> anyhow::Result<()> {
    let mut piece = [0; 4096];
    loop {
        let count = rest.read(&mut piece).context("its end can't be read")?;
        if count == 0 {
            return Ok(());
        }
        anyhow::ensure!(
            piece[..count].iter().all(|byte| *byte == 0),
            "it has data after its last file"
        );
    }
}

/// Gives out only as many bytes as were allowed, so that no header can make its reader allocate, or skip, without
/// bounds.
struct Bounded<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = usize::try_from(self.allowance.get()).unwrap_or(usize::MAX);
        if allowed == 0 && !buffer.is_empty() {
            return Err(io::Error::other("there is more than the manifest allows"));
        }
        let most = buffer.len().min(allowed);
        let count = self.inner.read(&mut buffer[..most])?;
        self.allowance.set(self.allowance.get() - count as u64);
        Ok(count)
    }
}

mod manifest;
#[cfg(test)]
pub(crate) mod tests;
