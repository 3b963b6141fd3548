use std::fmt;

use crate::{Digest, FilePath};

/// A regular file of a generation.
///
/// Its text is the line that enters the generation's id, without the newline:
///
/// ```
/// let line = "file x 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 config/run.sh";
/// let file: bento_protocol::File = line.parse().unwrap();
/// assert!(file.executable);
/// assert_eq!(file.to_string(), line);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The path, below `config/` or `secrets/`.
    pub path: FilePath,
    /// Whether its owner may execute it, which is the only published permission.
    pub executable: bool,
    /// Its length in bytes.
    pub size: u64,
    /// The digest of its content.
    pub sha256: Digest,
}

/// A text that isn't the line of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} isn't the line of a file: \"file\", x or -, size, digest and path")]
pub struct FileError(String);

impl fmt::Display for File {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executable = if self.executable { 'x' } else { '-' };
        write!(
            formatter,
            "file {executable} {} {} {}",
            self.size, self.sha256, self.path
        )
    }
}

impl std::str::FromStr for File {
    type Err = FileError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let parse = || {
            // The path comes last, because it may have spaces in it.
            let mut parts = line.strip_prefix("file ")?.splitn(4, ' ');
            let executable = match parts.next()? {
                "x" => true,
                "-" => false,
                _ => return None,
            };
            let size = parts.next()?.parse().ok()?;
            let sha256 = parts.next()?.parse().ok()?;
            let path = parts.next()?.parse().ok()?;
            Some(File {
                path,
                executable,
                size,
                sha256,
            })
        };
        parse().ok_or_else(|| FileError(line.chars().take(200).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_file_and_nothing_else_is() {
        let digest = Digest::of("");
        let file: File = format!("file - 7 {digest} config/a b  c").parse().unwrap();
        assert_eq!((file.size, file.path.as_str()), (7, "config/a b  c"));
        for bad in [
            String::new(),
            format!("file y 7 {digest} config/a"),
            format!("file x -1 {digest} config/a"),
            format!("file x 7 {digest}"),
            format!("file x 7 {digest} config/.."),
            format!("file x 7 {digest}  config/a"),
            "file x 7 0 config/a".to_owned(),
        ] {
            assert!(bad.parse::<File>().is_err(), "{bad:?}");
        }
    }
}
