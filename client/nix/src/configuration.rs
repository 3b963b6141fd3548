//! The kinds of configuration in a machine's folder.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

/// The lock file of a flake.
pub const LOCK_FILE: &str = "flake.lock";

/// A buildable configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An attribute of the flake in this folder.
    Flake(PathBuf),
    /// `<nixpkgs/nixos>` with this configuration.nix.
    Classic(PathBuf),
}

impl Kind {
    /// Finds the configuration in a folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(config: &Path) -> anyhow::Result<Self> {
        if is_flake(config) {
            return Ok(Kind::Flake(config.to_owned()));
        }
        let classic = config.join("configuration.nix");
        if classic.is_file() {
            return Ok(Kind::Classic(classic));
        }
        Err(anyhow!(
            "there is neither a flake.nix nor a configuration.nix in {}: this machine's folder of the fleet must have \
             one of them at its top",
            config.display()
        ))
    }
}

/// Whether a configuration is a flake. A flake wins over a configuration.nix.
pub fn is_flake(config: &Path) -> bool {
    config.join("flake.nix").is_file()
}

/// Whether all inputs of a configuration are pinned: a flake with its lock file. Other inputs may change by themselves,
/// so that a failed build may succeed later.
pub fn has_lock(config: &Path) -> bool {
    is_flake(config) && config.join(LOCK_FILE).is_file()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_flake_with_a_lock_file_is_pinned() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("flake.lock"), "{}").unwrap();
        assert!(!has_lock(folder.path()));
        fs::write(folder.path().join("flake.nix"), "").unwrap();
        assert!(has_lock(folder.path()));
        fs::remove_file(folder.path().join("flake.lock")).unwrap();
        assert!(!has_lock(folder.path()));
    }

    #[test]
    fn a_flake_wins_and_nothing_is_an_error_that_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let error = Kind::of(folder.path()).unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
        let classic = folder.path().join("configuration.nix");
        fs::write(&classic, "").unwrap();
        assert_eq!(Kind::of(folder.path()).unwrap(), Kind::Classic(classic));
        fs::write(folder.path().join("flake.nix"), "").unwrap();
        assert_eq!(
            Kind::of(folder.path()).unwrap(),
            Kind::Flake(folder.path().into())
        );
    }
}
