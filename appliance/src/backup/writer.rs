use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bento_protocol::{Digest, Format};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use tar::{Builder, EntryType, Header};

use super::digest::ArchiveDigest;
use super::entry::{EntryKind, EntryPath};
use super::{END, HEAD, StateSnapshot};
use crate::store::atomic_file;

/// The first entry of an archive.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ArchiveHead {
    format: Format,
    /// The version of bento that wrote the archive.
    version: String,
    /// The time of writing.
    at: Timestamp,
}

/// Writes an archive of a snapshot.
///
/// # Errors
/// When a file can't be read or written.
pub fn write(snapshot: &StateSnapshot, output: &mut dyn Write) -> Result<()> {
    let mut archive = Builder::new(output);
    let head = ArchiveHead {
        format: Format,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: Timestamp::now(),
    };
    add_document(&mut archive, HEAD, &head)?;
    let mut digest = ArchiveDigest::default();
    add_folder(&mut archive, snapshot.root(), Path::new(""), &mut digest)?;
    add_document(&mut archive, END, &digest.end())?;
    archive.into_inner()?.flush()?;
    Ok(())
}

fn add_document<T: Serialize>(
    archive: &mut Builder<&mut dyn Write>,
    name: &str,
    document: &T,
) -> io::Result<()> {
    let json = atomic_file::to_json(document)?;
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(json.len() as u64);
    archive.append_data(&mut header, name, &*json)
}

/// Adds the entries of a folder, sorted by name.
fn add_folder(
    archive: &mut Builder<&mut dyn Write>,
    root: &Path,
    folder: &Path,
    digest: &mut ArchiveDigest,
) -> Result<()> {
    let mut names = fs::read_dir(root.join(folder))?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        let relative = folder.join(name);
        let real = root.join(&relative);
        let mut add = || -> Result<bool> {
            let path = EntryPath::new(&relative)?;
            let found = fs::symlink_metadata(&real)?;
            add_entry(archive, &path, &real, &found, digest)?;
            Ok(found.is_dir())
        };
        let is_folder = add().with_context(|| format!("can't back up {}", relative.display()))?;
        if is_folder {
            add_folder(archive, root, &relative, digest)?;
        }
    }
    Ok(())
}

fn add_entry(
    archive: &mut Builder<&mut dyn Write>,
    path: &EntryPath,
    real: &Path,
    found: &Metadata,
    digest: &mut ArchiveDigest,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(found.mode() & 0o7777);
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or_default());
    header.set_size(0);
    if found.is_symlink() {
        let target = fs::read_link(real)?;
        path.require_link(&target)?;
        header.set_entry_type(EntryType::Symlink);
        archive.append_link(&mut header, path.as_path(), &target)?;
        digest.add(path, &EntryKind::Link(target), None);
    } else if found.is_dir() {
        header.set_entry_type(EntryType::Directory);
        archive.append_data(&mut header, path.as_path(), io::empty())?;
        digest.add(path, &EntryKind::Folder, None);
    } else {
        ensure!(found.is_file(), "it is neither a file nor a folder");
        header.set_entry_type(EntryType::Regular);
        header.set_size(found.len());
        let mut content = Hashing::of(File::open(real)?.take(found.len()));
        archive.append_data(&mut header, path.as_path(), &mut content)?;
        ensure!(
            content.bytes == found.len(),
            "it was truncated while it was read"
        );
        digest.add(path, &EntryKind::File(found.len()), Some(content.digest()));
    }
    Ok(())
}

/// A reader that hashes its data.
pub(super) struct Hashing<R> {
    from: R,
    hasher: sha2::Sha256,
    pub(super) bytes: u64,
}

impl<R> Hashing<R> {
    pub(super) fn of(from: R) -> Self {
        Hashing {
            from,
            hasher: sha2::Sha256::new(),
            bytes: 0,
        }
    }

    pub(super) fn digest(self) -> Digest {
        Digest::from_hasher(self.hasher)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}
