use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// The names of symlinks in a state: the current publication, and values that a machine reads with one READLINK.
const LINKS: [&str; 4] = ["current", "generation", "release", "system"];
/// The kernel's limit for a path.
const PATH_BYTES: usize = 4096;
/// Entries of a state that are never in a backup: locks and temporary entries.
const OWN: [&str; 2] = ["lock", "lost+found"];
const OWN_PREFIXES: [&str; 2] = ["backup.", "restore."];

/// A path in a state: relative, in UTF-8, without `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryPath(PathBuf);

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    Folder,
    /// A file, with its size in bytes.
    File(u64),
    Link(PathBuf),
}

impl EntryPath {
    /// Checks a path of a state or of an archive.
    ///
    /// # Errors
    /// When it could lead out of the state.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        let text = path.to_str().context("a path in it isn't UTF-8")?;
        let shown = || format!("the path {text:?} in it");
        ensure!(text.len() <= PATH_BYTES, "a path in it is too long");
        ensure!(
            !text.contains(char::is_control),
            "{} has a control character",
            shown()
        );
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                _ => bail!("{} leads out of the state", shown()),
            }
        }
        let first = names.first().and_then(|name| name.to_str());
        let first = first.with_context(|| format!("{} is empty", shown()))?;
        ensure!(!is_own(first), "{} can't be in a backup", shown());
        // In one normal form.
        Ok(EntryPath(names.iter().collect()))
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether a symlink to this target may lie here.
    ///
    /// # Errors
    /// When it may not.
    pub(super) fn require_link(&self, target: &Path) -> anyhow::Result<()> {
        let name = self.0.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| LINKS.contains(name));
        let is_right = match name {
            Some("current") => is_chroot(target),
            // Only the machine reads it, and only in its chroot.
            Some(_) => self
                .0
                .parent()
                .is_some_and(|parent| parent.ends_with("chroot")),
            None => false,
        };
        ensure!(
            is_right,
            "{} is a symlink to {}, which can't be in a state",
            self.0.display(),
            target.display()
        );
        Ok(())
    }
}

/// Whether an entry of a state is a lock or temporary, and so not part of a backup.
pub(super) fn is_own(name: &str) -> bool {
    OWN.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// `publications/<number>/chroot`.
fn is_chroot(target: &Path) -> bool {
    let names: Vec<_> = target.iter().filter_map(|name| name.to_str()).collect();
    match names[..] {
        ["publications", number, "chroot"] => number.parse::<u64>().is_ok(),
        _ => false,
    }
}
