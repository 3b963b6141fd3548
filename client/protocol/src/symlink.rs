use crate::{Area, FilePath};

/// A symlink of a generation. Its target stays inside `config/`, whatever the links on the way are.
///
/// The target is relative and has `..` only at its start, where the kernel applies it to the real folder of the link;
/// the rest only descends. The same holds for every link on the way, so by induction no chain of links leaves
/// `config/`. A `..` after a name could leave it: `p/../../secrets` is inside as text, but the kernel applies the `..`
/// to the target of the link `p`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symlink {
    path: FilePath,
    target: String,
}

/// Why a generation can't hold a symlink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SymlinkError {
    /// Secrets are files: a link could lead out of them, or to the secrets of another machine.
    #[error("{0} is a symlink, but secrets must be files")]
    Secret(FilePath),
    /// The target is empty.
    #[error("{0} is a symlink without a target")]
    Empty(FilePath),
    /// Absolute: it would be another file on each machine.
    #[error("{0} is a symlink to the absolute path {1:?}")]
    Absolute(FilePath, String),
    /// A control character, such as a newline.
    #[error("{0} is a symlink whose target {1:?} has a control character")]
    Control(FilePath, String),
    /// Too long for Linux to open.
    #[error("{0} is a symlink whose target has {1} bytes, more than {max}", max = FilePath::MAX_BYTES)]
    Length(FilePath, usize),
    /// `..` after a name, which may be another symlink.
    #[error("{0} is a symlink to {1:?}, which has .. after another part")]
    LateParent(FilePath, String),
    /// More `..` than folders above it.
    #[error("{0} is a symlink to {1:?}, which leads out of config/")]
    Outside(FilePath, String),
}

impl Symlink {
    /// A symlink at a path below `config/`, with this target, which needn't exist.
    ///
    /// # Errors
    /// When the target isn't allowed.
    pub fn new(path: FilePath, target: String) -> Result<Self, SymlinkError> {
        if path.area() != Area::Config {
            return Err(SymlinkError::Secret(path));
        }
        if target.is_empty() {
            return Err(SymlinkError::Empty(path));
        }
        if target.len() > FilePath::MAX_BYTES {
            return Err(SymlinkError::Length(path, target.len()));
        }
        if target.chars().any(char::is_control) {
            return Err(SymlinkError::Control(path, target));
        }
        if target.starts_with('/') {
            return Err(SymlinkError::Absolute(path, target));
        }
        let Some(climbs) = climbs(&target) else {
            return Err(SymlinkError::LateParent(path, target));
        };
        // The folders above the link, less `config` itself.
        if climbs >= path.folders().count() {
            return Err(SymlinkError::Outside(path, target));
        }
        Ok(Symlink { path, target })
    }

    /// The path, below `config/`.
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// The target, relative to the folder of the symlink.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The number of `..` at the start of the target.
    pub fn climbs(&self) -> usize {
        climbs(&self.target).unwrap_or_default()
    }

    /// The path of the target below `config/`, without following other symlinks: empty for that folder itself.
    pub fn leads_to(&self) -> String {
        let mut parts: Vec<&str> = self.path.rest().split('/').collect();
        parts.pop();
        for part in self.target.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        parts.join("/")
    }
}

/// The number of `..` at the start of a relative target; none if it has `..` after a name.
fn climbs(target: &str) -> Option<usize> {
    let parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
    let climbs = parts.clone().take_while(|part| *part == "..").count();
    let descends = !parts.skip(climbs).any(|part| part == "..");
    descends.then_some(climbs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(path: &str, target: &str) -> Result<Symlink, SymlinkError> {
        Symlink::new(path.parse().unwrap(), target.to_owned())
    }

    // Issue 10, line 3.
    #[test]
    fn a_target_never_leaves_config() {
        for good in [
            ("config/a", "b"),
            ("config/a", "."),
            ("config/a", "nowhere/at/all"),
            ("config/a", "b c/ä"),
            ("config/a", "..."),
            ("config/a/b", ".."),
            ("config/a/b", "../"),
            ("config/a/b", "./../c"),
            ("config/a/b", "..//c/"),
            (
                "config/common/overlays/default.nix",
                "../../pkgs/default.nix",
            ),
        ] {
            let link = made(good.0, good.1).unwrap();
            assert_eq!((link.path().as_str(), link.target()), good);
        }
        for (path, target) in [
            ("secrets/a", "b"),
            ("config/a", ""),
            ("config/a", "/etc/passwd"),
            ("config/a", "b\nc"),
            ("config/a", "b\0c"),
            ("config/a", "b\u{85}"),
            ("config/a", ".."),
            ("config/a", "../config/b"),
            ("config/a", "./.."),
            ("config/a/b", "../../secrets/key"),
            ("config/p/q/s", "../../.."),
            // Inside as text, but not where p/q/s is a symlink.
            ("config/a", "p/q/s/../../secrets/key"),
            ("config/a/b", "../p/.."),
            ("config/a", "p/./.."),
            ("config/a", "p//.."),
        ] {
            assert!(made(path, target).is_err(), "{path} -> {target:?}");
        }
        assert!(made("config/a", &"a".repeat(FilePath::MAX_BYTES)).is_ok());
        assert!(made("config/a", &"a".repeat(FilePath::MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn targets_are_resolved() {
        for (path, target, leads_to) in [
            ("config/a/b/c", "../../x/y", "x/y"),
            ("config/a/b", "..", ""),
            ("config/a/b", "./d//e/", "a/d/e"),
            ("config/a", ".", ""),
        ] {
            let link = made(path, target).unwrap();
            let climbs = target.matches("..").count();
            assert_eq!(
                (link.leads_to().as_str(), link.climbs()),
                (leads_to, climbs)
            );
        }
    }
}
