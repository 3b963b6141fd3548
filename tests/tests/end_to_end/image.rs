//! What lies in an image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use serde_json::Value;
use tar::Archive;

const PROGRAMS: [&str; 3] = ["usr/bin/bento", "usr/sbin/sshd", "usr/bin/ssh-keygen"];

/// Checks that an OCI archive has bento, OpenSSH, the libraries that they need, and no other file.
pub(crate) fn holds_only_what_it_needs(archive: &Path) -> Result<()> {
    let files = files_of_image(archive)?;
    for program in PROGRAMS {
        assert!(
            files.iter().any(|file| file == program),
            "{program} isn't in {files:?}"
        );
    }
    let is_needed = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_library =
            (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so");
        let is_part_of_sshd = ["sshd-session", "sshd-auth"].contains(&name);
        is_library || is_part_of_sshd || PROGRAMS.contains(&path) || path == "etc/nsswitch.conf"
    };
    let others: Vec<_> = files.iter().filter(|file| !is_needed(file)).collect();
    assert!(others.is_empty(), "{others:?}");
    Ok(())
}

/// The paths of all regular files in the layers of an OCI archive.
fn files_of_image(archive: &Path) -> Result<Vec<String>> {
    let parts = files_of(File::open(archive)?)?;
    let part = |path: &str| {
        parts
            .get(path)
            .with_context(|| format!("the image has no {path}"))
    };
    let document = |path: &str| -> Result<Value> { Ok(serde_json::from_slice(part(path)?)?) };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        format!("blobs/{}", digest.replace(':', "/"))
    };
    let index = document("index.json")?;
    let manifest = document(&blob(&index["manifests"][0]))?;
    let mut files = Vec::new();
    for layer in manifest["layers"].as_array().context("it has no layers")? {
        files.extend(files_of(GzDecoder::new(part(&blob(layer))?.as_slice()))?.into_keys());
    }
    Ok(files)
}

/// The regular files of a tar archive.
fn files_of(tar: impl Read) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in Archive::new(tar).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        if entry.header().entry_type().is_file() {
            entry.read_to_end(&mut content)?;
            files.insert(entry.path()?.to_string_lossy().into_owned(), content);
        }
    }
    Ok(files)
}
