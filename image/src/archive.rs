//! An image as one file: an OCI layout in a tar archive, for `podman load`.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{EntryType, Header};

use crate::date::SourceDate;
use crate::image::Layout;

/// Writes the archive to a temporary file and renames it to `output`, so that after a crash
/// `output` is the old file or the new one. Returns its size in bytes.
///
/// # Errors
/// When the folder of `output` doesn't exist, or can't be written to.
pub fn write(layout: &Layout, output: &Path) -> Result<u64> {
    let folder = match output.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let writing = || format!("writing {}", output.display());
    let mut aside = tempfile::Builder::new()
        .prefix(".bento-image-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(writing)?;
    pack(layout, aside.as_file_mut()).with_context(writing)?;
    aside.as_file().sync_all().with_context(writing)?;
    let file = aside.persist(output).with_context(writing)?;
    // The new name must survive a power cut, too.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(writing)?;
    Ok(file.metadata().with_context(writing)?.len())
}

fn pack(layout: &Layout, file: &mut File) -> Result<()> {
    // Sorted, and each once: two layers with the same content are one blob.
    let mut files = BTreeMap::from([
        ("index.json".to_owned(), &layout.index),
        ("oci-layout".to_owned(), &layout.marker),
    ]);
    for blob in [&layout.manifest, &layout.configuration]
        .into_iter()
        .chain(&layout.layers)
    {
        let path = format!("blobs/{}/{}", blob.digest.algorithm(), blob.digest.digest());
        files.insert(path, &blob.bytes);
    }
    let mut builder = tar::Builder::new(BufWriter::new(file));
    for (path, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(SourceDate::DEFAULT.seconds());
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, &path, bytes.as_slice())?;
    }
    Ok(builder.into_inner()?.flush()?)
}
