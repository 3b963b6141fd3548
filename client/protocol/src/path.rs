use crate::text_type;

/// The path of a file in a generation: relative, `/`-separated, below `config/` or `secrets/`.
///
/// Its parts are never empty, `.` or `..`, so that it stays inside of any folder that it is joined to. It has no
/// control characters, so that it stays on one line. Ordered bytewise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

text_type!(FilePath(String));

/// Why a text isn't the path of a file in a generation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilePathError {
    /// In neither of the two folders.
    #[error("the path {0:?} starts with neither config/ nor secrets/")]
    Area(String),
    /// Absolute, or with a part that is empty, `.` or `..`.
    #[error("the path {0:?} has a part that is empty, . or ..")]
    Part(String),
    /// A control character, such as a newline.
    #[error("the path {0:?} has a control character: rename the file")]
    Control(String),
    /// Too long for Linux to open.
    #[error("a path has {0} bytes, more than the {max} that Linux can open", max = FilePath::MAX_BYTES)]
    Length(usize),
}

/// The two kinds of files in a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// Sources for Nix; any user of the machine may be able to read them.
    Config,
    /// Files that must never enter a Nix store.
    Secrets,
}

impl Area {
    /// The name of its folder.
    pub fn folder(self) -> &'static str {
        match self {
            Area::Config => "config",
            Area::Secrets => "secrets",
        }
    }
}

impl FilePath {
    /// The longest path in bytes: PATH_MAX (4096) without room for the folder where it is unpacked.
    pub const MAX_BYTES: usize = 3500;

    /// A path from its folder and the rest.
    pub fn new(area: Area, rest: &str) -> Result<Self, FilePathError> {
        format!("{}/{rest}", area.folder()).parse()
    }

    /// Whether it is configuration or a secret.
    pub fn area(&self) -> Area {
        if self.0.starts_with("config/") {
            Area::Config
        } else {
            Area::Secrets
        }
    }

    /// The path below its area's folder.
    pub fn rest(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, rest)| rest)
    }

    /// The folders above it, outermost last: `config/a/b` gives `config/a`, then `config`.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(self.0.rsplit_once('/').map(|(folder, _)| folder), |path| {
            path.rsplit_once('/').map(|(folder, _)| folder)
        })
    }
}

impl std::str::FromStr for FilePath {
    type Err = FilePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::MAX_BYTES {
            return Err(FilePathError::Length(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(FilePathError::Control(text.to_owned()));
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(FilePathError::Part(text.to_owned()));
        }
        let in_area = [Area::Config, Area::Secrets].iter().any(|area| {
            text.strip_prefix(area.folder())
                .is_some_and(|rest| rest.starts_with('/'))
        });
        if in_area {
            Ok(FilePath(text.to_owned()))
        } else {
            Err(FilePathError::Area(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_folder() {
        for bad in [
            "",
            "config",
            "config/",
            "/config/a",
            "config//a",
            "config/./a",
            "config/../a",
            "config/a/..",
            "configs/a",
            "other/a",
            "config/a\nb",
            "config/a\u{1b}[0m",
            "config/a\u{85}",
            "secrets",
        ] {
            assert!(bad.parse::<FilePath>().is_err(), "{bad:?}");
        }
        assert!(
            format!("config/{}", "a".repeat(FilePath::MAX_BYTES))
                .parse::<FilePath>()
                .is_err()
        );
    }

    #[test]
    fn names_stay_as_they_are() {
        for good in [
            "config/a b",
            "config/.hidden",
            "secrets/ä/…",
            "config/a\u{301}",
            "config/...",
        ] {
            assert_eq!(good.parse::<FilePath>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_path_knows_its_parts() {
        let path: FilePath = "secrets/a/b".parse().unwrap();
        assert_eq!((path.area(), path.rest()), (Area::Secrets, "a/b"));
        assert_eq!(path.folders().collect::<Vec<_>>(), ["secrets/a", "secrets"]);
    }
}
