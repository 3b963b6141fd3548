//! A generation as a machine gets it, with every byte of it checked.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use bento_protocol::{Delta, Digest, GenerationId, Manifest, ManifestEntry, chroot};
use flate2::read::GzDecoder;
use sha2::Sha256;
use tar::Archive;

/// A generation that is what its id says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generation {
    pub(crate) manifest: Manifest,
    /// By the path in the generation: of a symlink `-> ` and its target.
    pub(crate) contents: BTreeMap<String, Vec<u8>>,
}

/// The parts of an archive: the document at its front, and the files after it.
type Parts = (Vec<u8>, BTreeMap<String, Vec<u8>>);

impl Generation {
    /// Checks a bundle against the id that was polled and the manifest that was read beside it.
    pub(crate) fn of_bundle(id: GenerationId, manifest: &[u8], bundle: &[u8]) -> Result<Self> {
        let parsed: Manifest = serde_json::from_slice(manifest)?;
        ensure!(
            parsed.generation() == id,
            "polled {id}, but the manifest is of {}",
            parsed.generation()
        );
        let (document, contents) = unpack(bundle, chroot::MANIFEST_ENTRY, |_| {
            Ok(parsed.files().to_vec())
        })?;
        ensure!(
            document == manifest,
            "the bundle of {id} has another manifest than stands beside it"
        );
        Ok(Generation {
            manifest: parsed,
            contents,
        })
    }

    /// What a delta makes of this generation; every byte that it brings is checked.
    pub(crate) fn changed_by(&self, archive: &[u8]) -> Result<(Delta, Self)> {
        let files = |document: &[u8]| Ok(serde_json::from_slice::<Delta>(document)?.changed);
        let (document, changed) = unpack(archive, chroot::DELTA_ENTRY, files)?;
        let delta: Delta = serde_json::from_slice(&document)?;
        let manifest = delta.apply(&self.manifest)?;
        let mut contents = self.contents.clone();
        for path in &delta.removed {
            contents.remove(path.as_str());
        }
        contents.extend(changed);
        Ok((delta, Generation { manifest, contents }))
    }

    pub(crate) fn id(&self) -> GenerationId {
        self.manifest.generation()
    }

    /// The content of a file, as text.
    pub(crate) fn text(&self, path: &str) -> &str {
        let content = self.contents.get(path);
        let content = content.unwrap_or_else(|| panic!("{path} isn't in {:?}", self.paths()));
        str::from_utf8(content).expect("the tests' files are text")
    }

    /// The paths of all files, in the manifest's order.
    pub(crate) fn paths(&self) -> Vec<&str> {
        let files = self.manifest.files().iter();
        files.map(|file| file.path().as_str()).collect()
    }
}

/// Unpacks an archive, which must hold exactly the files that its document calls for, in their order.
fn unpack(
    archive: &[u8],
    document_name: &str,
    files: impl FnOnce(&[u8]) -> Result<Vec<ManifestEntry>>,
) -> Result<Parts> {
    let mut archive = Archive::new(GzDecoder::new(archive));
    let mut entries = archive.entries()?;
    let mut next = || -> Result<Option<(tar::Header, String, Vec<u8>)>> {
        let Some(entry) = entries.next() else {
            return Ok(None);
        };
        let mut entry = entry?;
        let path = str::from_utf8(&entry.path_bytes())?.to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if let Some(target) = entry.link_name_bytes() {
            ensure!(content.is_empty(), "the symlink {path} has a content");
            content = [b"-> ", &*target].concat();
        }
        ensure!(
            entry.header().mtime()? == 1,
            "{path} has another time than all files have"
        );
        Ok(Some((entry.header().clone(), path, content)))
    };
    let (_, name, document) = next()?.context("the archive is empty")?;
    ensure!(name == document_name, "{name} comes first");
    let mut contents = BTreeMap::new();
    for file in files(&document)? {
        let (header, path, content) =
            next()?.with_context(|| format!("{} is missing", file.path()))?;
        ensure!(
            path == file.path().as_str(),
            "{path} stands in the place of {}",
            file.path()
        );
        let file = match file {
            ManifestEntry::File(file) => file,
            ManifestEntry::Symlink(link) => {
                ensure!(
                    header.entry_type().is_symlink()
                        && content == format!("-> {}", link.target()).as_bytes(),
                    "{path} isn't the symlink of the manifest"
                );
                contents.insert(path, content);
                continue;
            }
        };
        ensure!(header.entry_type().is_file(), "{path} isn't a file");
        ensure!(content.len() as u64 == file.size, "{path} has another size");
        ensure!(
            Digest::of(&content) == file.sha256,
            "{path} has another content"
        );
        ensure!(
            (header.mode()? & 0o111 != 0) == file.executable,
            "{path} is executable, or isn't, against the manifest"
        );
        contents.insert(path, content);
    }
    ensure!(next()?.is_none(), "the archive holds more than it says");
    Ok((document, contents))
}

/// The id that DESIGN gives to files, computed without bento: lines of text, hashed.
///
/// `files` are path, executable and content, in any order; a content that begins with `-> ` is that of a symlink.
pub(crate) fn id_by_the_book(host: &str, policy: &str, files: &[(&str, bool, &str)]) -> String {
    use sha2::Digest as _;
    let mut files = files.to_vec();
    files.sort_by_key(|(path, ..)| path.as_bytes());
    let mut lines = format!("bento-generation 1\nhost {host}\npolicy {policy}\n");
    for (path, executable, content) in files {
        let mark = if executable { 'x' } else { '-' };
        if let Some(target) = content.strip_prefix("-> ") {
            lines += &format!("link {} {path}\n", hex(&Sha256::digest(target)));
            continue;
        }
        let digest = hex(&Sha256::digest(content));
        lines += &format!("file {mark} {} {digest} {path}\n", content.len());
    }
    hex(&Sha256::digest(lines))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
