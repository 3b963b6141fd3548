//! Manifests and deltas as the contract describes them, read without any of bento's types.

use std::collections::BTreeMap;
use std::fmt::Write;

use bento_protocol::Digest;
use serde_json::Value;

/// Stands in an input where the id must be that of what is listed: no mutation would ever find it.
const ID: &str = "\"generation\":\"?\"";

/// A file as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub path: String,
    pub executable: bool,
    pub size: u64,
    pub sha256: String,
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

    /// The files of this list, in its order; none when one of them can't be understood.
    pub fn files(&self, list: &str) -> Option<Vec<Listed>> {
        let file = |file: &Value| {
            Some(Listed {
                path: file.get("path")?.as_str()?.to_owned(),
                executable: file.get("executable")?.as_bool()?,
                size: file.get("size")?.as_u64()?,
                sha256: file.get("sha256")?.as_str()?.to_owned(),
            })
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
            let executable = if file.executable { 'x' } else { '-' };
            let (size, sha256, path) = (file.size, &file.sha256, &file.path);
            writeln!(lines, "file {executable} {size} {sha256} {path}").ok()?;
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

/// Stops at a list that isn't sorted bytewise, that has a path twice, or a file that is a folder of another; and at a
/// path that could lead anywhere but below its folder.
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
}
