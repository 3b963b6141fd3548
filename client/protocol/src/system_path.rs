use std::path::Path;

use crate::text_type;

/// The store path of a built NixOS system (its toplevel), as a machine reports it.
///
/// A store can have another place than `/nix/store`, so the path is only checked to be absolute, without `.` or `..`,
/// and in printable ASCII, which can't control a terminal or imitate other text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemPath(String);

text_type!(SystemPath(String));

/// A text that isn't the path of a system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} isn't the absolute store path of a system")]
pub struct SystemPathError(String);

impl SystemPath {
    /// The longest path in bytes; Nix allows names of 211 characters after its store and hash.
    pub const MAX_BYTES: usize = 1024;

    /// The path of a file in the system, such as `bin/switch-to-configuration`.
    pub fn join(&self, name: &str) -> std::path::PathBuf {
        Path::new(&self.0).join(name)
    }
}

impl std::str::FromStr for SystemPath {
    type Err = SystemPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = text.len() <= Self::MAX_BYTES
            && text.len() > 1
            && text.starts_with('/')
            && text[1..]
                .split('/')
                .all(|part| !matches!(part, "" | "." | ".."))
            && text
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if good {
            Ok(SystemPath(text.to_owned()))
        } else {
            Err(SystemPathError(text.chars().take(200).collect()))
        }
    }
}

impl AsRef<Path> for SystemPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_absolute_paths_are_systems() {
        assert!(
            "/nix/store/00000000000000000000000000000000-nixos-system"
                .parse::<SystemPath>()
                .is_ok()
        );
        for bad in [
            "",
            "/",
            "nix/store/x",
            "/nix/../x",
            "/nix//x",
            "/nix/store/x\n",
            "/nix/store/\u{202e}x",
            "/nix/store/\u{85}x",
            "/nix/store/x/",
        ] {
            assert!(bad.parse::<SystemPath>().is_err(), "{bad:?}");
        }
    }
}
