//! Manifests and deltas as in the contract, parsed without bento's types.

use std::collections::BTreeMap;
use std::fmt::Write;

use bento_protocol::Digest;
use serde_json::Value;

/// Placeholder in an input for the right id, which no mutation would find.
const ID: &str = "\"generation\":\"?\"";

/// A listed file or symlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub path: String,
    pub kind: Kind,
}

/// The kind of a listed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File {
        executable: bool,
        size: u64,
        sha256: String,
    },
    Symlink(String),
}

/// A manifest, or a delta.
#[derive(Debug)]
pub struct Document {
    value: Value,
}

impl Document {
    /// Parses a document; none if it isn't JSON.
    pub fn read(json: &[u8]) -> Option<Self> {
        let value = serde_json::from_slice(json).ok()?;
        Some(Document { value })
    }

    /// The generation that it names.
    pub fn generation(&self) -> Option<&str> {
        self.value.get("generation")?.as_str()
    }

    /// The files and symlinks of this list, in order; none if one is invalid.
    pub fn files(&self, list: &str) -> Option<Vec<Listed>> {
        let file = |file: &Value| {
            let kind = match file.get("symlink") {
                Some(target) => Kind::Symlink(target.as_str()?.to_owned()),
                None => Kind::File {
                    executable: file.get("executable")?.as_bool()?,
                    size: file.get("size")?.as_u64()?,
                    sha256: file.get("sha256")?.as_str()?.to_owned(),
                },
            };
            let path = file.get("path")?.as_str()?.to_owned();
            Some(Listed { path, kind })
        };
        self.value.get(list)?.as_array()?.iter().map(file).collect()
    }

    /// The result of the delta for these files, sorted.
    pub fn applied_to(&self, base: &[Listed]) -> Option<Vec<Listed>> {
        let by_path = |file: Listed| (file.path.clone(), file);
        let mut files: BTreeMap<_, _> = base.iter().cloned().map(by_path).collect();
        for path in self.value.get("removed")?.as_array()? {
            files.remove(path.as_str()?);
        }
        files.extend(self.files("changed")?.into_iter().map(by_path));
        Some(files.into_values().collect())
    }

    /// The id of a generation with these files, in this order, and the rest of the document.
    pub fn id_of(&self, files: &[Listed]) -> Option<String> {
        let host = self.value.get("host")?.as_str()?;
        let policy = self.value.get("policy")?;
        let mut lines = format!("bento-generation 1\nhost {host}\npolicy {policy}\n");
        for file in files {
            let path = &file.path;
            match &file.kind {
                Kind::File {
                    executable,
                    size,
                    sha256,
                } => {
                    let executable = if *executable { 'x' } else { '-' };
                    writeln!(lines, "file {executable} {size} {sha256} {path}").ok()?;
                }
                Kind::Symlink(target) => {
                    writeln!(lines, "link {} {path}", Digest::of(target)).ok()?;
                }
            }
        }
        Some(Digest::of(lines).to_string())
    }
}

/// The document with the right id in the place of [`ID`]. `files` returns the files of the id.
pub fn with_id(json: &[u8], files: impl FnOnce(&Document) -> Option<Vec<Listed>>) -> Vec<u8> {
    let fill = || {
        let text = std::str::from_utf8(json).ok()?;
        let at = text.find(ID)?;
        let document = Document::read(json)?;
        let id = document.id_of(&files(&document)?)?;
        let (before, after) = (&text[..at], &text[at + ID.len()..]);
        Some(format!("{before}\"generation\":\"{id}\"{after}").into_bytes())
    };
    fill().unwrap_or_else(|| json.to_owned())
}

/// Asserts that a list is sorted bytewise and unique, that no file is a folder of another, and that no path or symlink
/// leads out of its folder.
pub fn assert_listable(files: &[Listed]) {
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for pair in paths.windows(2) {
        assert!(
            pair[0].as_bytes() < pair[1].as_bytes(),
            "{pair:?} aren't sorted"
        );
    }
    for path in &paths {
        let parts: Vec<&str> = path.split('/').collect();
        assert!(
            parts.len() > 1 && matches!(parts[0], "config" | "secrets"),
            "{path:?} is in no folder"
        );
        assert!(
            !parts.iter().any(|part| matches!(*part, "" | "." | "..")),
            "{path:?} may lead elsewhere"
        );
        assert!(
            !path.chars().any(char::is_control),
            "{path:?} isn't one line"
        );
        for end in 1..parts.len() {
            let folder = parts[..end].join("/");
            assert!(
                paths.binary_search(&folder.as_str()).is_err(),
                "{folder:?} is a file and a folder"
            );
        }
    }
    for file in files {
        if let Kind::Symlink(target) = &file.kind {
            assert_leads_below_config(&file.path, target);
        }
    }
}

/// Asserts that a symlink isn't among secrets, and that its target isn't absolute, doesn't leave `config/`, and has no
/// `..` after a name, which could be another symlink.
fn assert_leads_below_config(path: &str, target: &str) {
    assert!(path.starts_with("config/"), "{path:?} is a symlink");
    assert!(
        !target.is_empty() && !target.starts_with('/'),
        "{path:?} leads to {target:?}"
    );
    assert!(
        !target.chars().any(char::is_control),
        "{path:?} leads to {target:?}"
    );
    let (mut depth, mut descended) = (path.matches('/').count() - 1, false);
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                assert!(!descended && depth > 0, "{path:?} leads to {target:?}");
                depth -= 1;
            }
            _ => descended = true,
        }
    }
}
