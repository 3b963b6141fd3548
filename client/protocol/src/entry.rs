use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, File, FileError, FilePath, Symlink, SymlinkError};

/// A file or a symlink of a generation.
///
/// Its text is one line, which can be parsed again. [`ManifestEntry::id_line`] is the line that enters the id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub enum ManifestEntry {
    /// A regular file.
    File(File),
    /// A symlink.
    Symlink(Symlink),
}

/// The JSON document: the fields of a file, or the target of a symlink.
#[derive(Serialize, Deserialize)]
struct Document {
    path: FilePath,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink: Option<String>,
}

/// Why something isn't an entry of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestEntryError {
    /// Neither a whole file nor a symlink, or both.
    #[error("{0} must have executable, size and sha256, or only symlink")]
    Kind(FilePath),
    /// A forbidden symlink.
    #[error(transparent)]
    Symlink(#[from] SymlinkError),
    /// A line that is neither of a file nor of a symlink.
    #[error(transparent)]
    Line(#[from] FileError),
}

impl ManifestEntry {
    /// The path, below `config/` or `secrets/`.
    pub fn path(&self) -> &FilePath {
        match self {
            ManifestEntry::File(file) => &file.path,
            ManifestEntry::Symlink(link) => link.path(),
        }
    }

    /// The file; none if it is a symlink.
    pub fn file(&self) -> Option<&File> {
        match self {
            ManifestEntry::File(file) => Some(file),
            ManifestEntry::Symlink(_) => None,
        }
    }

    /// The symlink; none if it is a file.
    pub fn symlink(&self) -> Option<&Symlink> {
        match self {
            ManifestEntry::File(_) => None,
            ManifestEntry::Symlink(link) => Some(link),
        }
    }

    /// The length of its content in bytes: 0 for a symlink.
    pub fn size(&self) -> u64 {
        self.file().map_or(0, |file| file.size)
    }

    /// The line that enters the id of the generation, without the newline.
    pub fn id_line(&self) -> String {
        match self {
            ManifestEntry::File(file) => file.to_string(),
            ManifestEntry::Symlink(link) => {
                format!("link {} {}", Digest::of(link.target()), link.path())
            }
        }
    }
}

impl From<File> for ManifestEntry {
    fn from(file: File) -> Self {
        ManifestEntry::File(file)
    }
}

impl From<Symlink> for ManifestEntry {
    fn from(link: Symlink) -> Self {
        ManifestEntry::Symlink(link)
    }
}

impl TryFrom<Document> for ManifestEntry {
    type Error = ManifestEntryError;

    fn try_from(document: Document) -> Result<Self, Self::Error> {
        let Document {
            path,
            executable,
            size,
            sha256,
            symlink,
        } = document;
        match (executable, size, sha256, symlink) {
            (Some(executable), Some(size), Some(sha256), None) => Ok(ManifestEntry::File(File {
                path,
                executable,
                size,
                sha256,
            })),
            (None, None, None, Some(target)) => Ok(Symlink::new(path, target)?.into()),
            _ => Err(ManifestEntryError::Kind(path)),
        }
    }
}

impl From<ManifestEntry> for Document {
    fn from(entry: ManifestEntry) -> Self {
        match entry {
            ManifestEntry::File(file) => Document {
                path: file.path,
                executable: Some(file.executable),
                size: Some(file.size),
                sha256: Some(file.sha256),
                symlink: None,
            },
            ManifestEntry::Symlink(link) => Document {
                path: link.path().clone(),
                executable: None,
                size: None,
                sha256: None,
                symlink: Some(link.target().to_owned()),
            },
        }
    }
}

impl fmt::Display for ManifestEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestEntry::File(file) => file.fmt(formatter),
            // Neither path nor target has a control character, so a tab separates them.
            ManifestEntry::Symlink(link) => {
                write!(formatter, "symlink {}\t{}", link.path(), link.target())
            }
        }
    }
}

impl std::str::FromStr for ManifestEntry {
    type Err = ManifestEntryError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let link = line
            .strip_prefix("symlink ")
            .and_then(|rest| rest.split_once('\t'))
            .and_then(|(path, target)| Some((path.parse().ok()?, target)));
        match link {
            Some((path, target)) => Ok(Symlink::new(path, target.to_owned())?.into()),
            None => Ok(line.parse::<File>()?.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(path: &str, target: &str) -> ManifestEntry {
        let made = Symlink::new(path.parse().unwrap(), target.to_owned());
        made.unwrap().into()
    }

    // Issue 10, line 3.
    #[test]
    fn a_line_and_a_document_are_read_back() {
        let digest = Digest::of("");
        let file: ManifestEntry = format!("file x 7 {digest} config/a b").parse().unwrap();
        for entry in [file, link("config/a b/c", "../d e"), link("config/a", ".")] {
            assert_eq!(entry.to_string().parse(), Ok(entry.clone()));
            let json = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<ManifestEntry>(&json).unwrap(), entry);
        }
        let json = serde_json::to_string(&link("config/a", "b")).unwrap();
        assert_eq!(json, r#"{"path":"config/a","symlink":"b"}"#);
        let line = format!("link {} config/a", Digest::of("b"));
        assert_eq!(link("config/a", "b").id_line(), line);
        for bad in [
            "symlink config/a",
            "symlink config/a\t",
            "symlink config/a\t..",
            "symlink secrets/a\tb",
            "symlink config/a\tb\tc",
            "link config/a\tb",
        ] {
            assert!(bad.parse::<ManifestEntry>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_entry_is_a_file_or_a_symlink_and_never_both() {
        let file = format!(
            r#""executable":false,"size":0,"sha256":"{}""#,
            Digest::of("")
        );
        let is_one =
            |fields: &str| serde_json::from_str::<ManifestEntry>(&format!("{{{fields}}}")).is_ok();
        assert!(is_one(&format!(r#""path":"config/a",{file}"#)));
        assert!(is_one(r#""path":"config/a","symlink":"b""#));
        assert!(!is_one(&format!(
            r#""path":"config/a",{file},"symlink":"b""#
        )));
        assert!(!is_one(r#""path":"config/a","symlink":"b","size":0"#));
        assert!(!is_one(r#""path":"config/a""#));
        assert!(!is_one(r#""path":"config/a","executable":false,"size":0"#));
        assert!(!is_one(r#""path":"config/a","symlink":"../b""#));
        assert!(!is_one(r#""path":"secrets/a","symlink":"b""#));
    }
}
