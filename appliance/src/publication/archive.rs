//! The archives that a machine pulls: gzipped tar, the same bytes for the same files.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bento_protocol::File;
use flate2::Compression;
use flate2::write::GzEncoder;

/// The modification time of every file that is published: 1 s after the epoch, because Nix and zip tools take 0 for
/// "unknown".
pub(super) const MODIFIED: u64 = 1;

/// Writes an archive whose first entry is a JSON document, followed by the content of files.
pub(super) fn write<'a>(
    path: &Path,
    document: (&str, &[u8]),
    files: impl Iterator<Item = &'a File>,
    content: impl Fn(&File) -> io::Result<fs::File>,
) -> io::Result<()> {
    let output = BufWriter::new(fs::File::create_new(path)?);
    let mut archive = tar::Builder::new(GzEncoder::new(output, Compression::default()));
    let (name, json) = document;
    archive.append_data(&mut header(json.len() as u64, false), name, json)?;
    for file in files {
        archive.append_data(
            &mut header(file.size, file.executable),
            file.path.as_str(),
            content(file)?,
        )?;
    }
    archive.into_inner()?.finish()?.flush()
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
