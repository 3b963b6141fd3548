//! The archives that a machine pulls: gzipped tar, the same bytes for the same files.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bento_protocol::{File, ManifestEntry, Symlink};
use flate2::Compression;
use flate2::write::GzEncoder;

/// The modification time of every published file: 1 s after the epoch, because 0 means "unknown" to Nix and zip tools.
pub(super) const MODIFIED: u64 = 1;

/// Writes an archive whose first entry is a JSON document, followed by files and symlinks.
pub(super) fn write<'a>(
    path: &Path,
    document: (&str, &[u8]),
    files: impl Iterator<Item = &'a ManifestEntry>,
    content: impl Fn(&File) -> io::Result<fs::File>,
) -> io::Result<()> {
    let output = BufWriter::new(fs::File::create_new(path)?);
    let mut archive = tar::Builder::new(GzEncoder::new(output, Compression::default()));
    let (name, json) = document;
    archive.append_data(&mut header(json.len() as u64, false), name, json)?;
    for entry in files {
        match entry {
            ManifestEntry::File(file) => archive.append_data(
                &mut header(file.size, file.executable),
                file.path.as_str(),
                content(file)?,
            )?,
            ManifestEntry::Symlink(link) => append_symlink(&mut archive, link)?,
        }
    }
    archive.into_inner()?.finish()?.flush()
}

/// Adds a symlink. Its target is written as it is: the library would write `a//b` as `a/b`.
fn append_symlink(archive: &mut tar::Builder<impl Write>, link: &Symlink) -> io::Result<()> {
    let target = link.target().as_bytes();
    let mut header = header(0, true);
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    if target.len() <= header.as_old().linkname.len() {
        header.set_link_name_literal(target)?;
    } else {
        // As GNU tar does: an entry before this one has the target as its content, ended by a zero.
        let mut long = self::header(target.len() as u64 + 1, false);
        long.set_entry_type(tar::EntryType::GNULongLink);
        archive.append_data(
            &mut long,
            "././@LongLink",
            [target, b"\0"].concat().as_slice(),
        )?;
    }
    archive.append_data(&mut header, link.path().as_str(), io::empty())
}

fn header(size: u64, executable: bool) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(MODIFIED);
    header.set_uid(0);
    header.set_gid(0);
    header
}
