//! Manifests and deltas as the contract describes them, read without any of bento's types.

use std::collections::BTreeMap;
use std::fmt::Write;

use bento_protocol::Digest;
use serde_json::Value;

/// Stands in an input where the id must be that of what is listed: no mutation would ever find it.
const ID: &str = "\"generation\":\"?\"";

/// A file or a symlink as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub path: String,
    pub kind: Kind,
}

/// What lies at a path.
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
    /// None where it isn't JSON at all.
    pub fn read(json: &[u8]) -> Option<Self> {
        let value = serde_json::from_slice(json).ok()?;
        Some(Document { value })
    }

    /// The generation that it names.
    pub fn generation(&self) -> Option<&str> {
        self.value.get("generation")?.as_str()
    }

    /// The files and symlinks of this list, in its order; none when one of them can't be understood.
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

    /// The files to which it leads from these, sorted.
    pub fn applied_to(&self, base: &[Listed]) -> Option<Vec<Listed>> {
        let by_path = |file: Listed| (file.path.clone(), file);
        let mut files: BTreeMap<_, _> = base.iter().cloned().map(by_path).collect();
        for path in self.value.get("removed")?.as_array()? {
            files.remove(path.as_str()?);
        }
        files.extend(self.files("changed")?.into_iter().map(by_path));
        Some(files.into_values().collect())
    }

    /// The id of a generation with these files, in this order, and what else the document says.
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

/// The document, with the id that it must have where the input asks for it. `files` finds what the id covers.
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

/// Stops at a list that isn't sorted bytewise, that has a path twice, or a file that is a folder of another; at a path
/// that could lead anywhere but below its folder, and at a symlink from which one could.
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

/// Stops at a symlink among secrets, and at a target that is absolute, climbs out of `config/`, or climbs after it has
/// descended: by another symlink it could have descended elsewhere.
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
