//! Archives, read as a machine reads them, with every check.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bento_protocol::{Digest, ManifestEntry as Listed};
use flate2::read::GzDecoder;

/// The document of an archive; its other entries must be these files.
pub fn read(
    path: &Path,
    name: &str,
    files: impl FnOnce(&[u8]) -> Result<Vec<Listed>>,
) -> Result<Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path)?));
    let mut entries = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let header = entry.header();
        ensure!(header.mtime()? == 1, "{path:?}: a time");
        let executable = header.mode()? & 0o100 != 0;
        entries.push((
            entry.path()?.to_string_lossy().into_owned(),
            executable,
            content,
        ));
    }
    ensure!(!entries.is_empty(), "{path:?} is empty");
    let (first, _, document) = entries.remove(0);
    ensure!(first == name, "{path:?} begins with {first}");
    let files = files(&document)?;
    ensure!(
        entries.len() == files.len(),
        "{path:?} has {} files",
        entries.len()
    );
    for (file, (name, executable, content)) in files.iter().zip(&entries) {
        let file = file.file().context("the tests' fleets have no symlinks")?;
        ensure!(
            file.path.as_str() == name
                && file.executable == *executable
                && file.size == content.len() as u64
                && file.sha256 == Digest::of(content),
            "{path:?}: {name} isn't what was promised"
        );
    }
    Ok(document)
}
