use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// A name that is a symlink in a state: what is published, and what a machine reads of it in one READLINK.
const LINKS: [&str; 4] = ["current", "generation", "release", "system"];
/// The longest path of the kernel.
const PATH_BYTES: usize = 4096;
/// Entries of a state that are never another's: locks, and what is only there while something is done.
const OWN: [&str; 2] = ["lock", "lost+found"];
const OWN_PREFIXES: [&str; 2] = ["backup.", "restore."];

/// Where something lies in a state: relative, in UTF-8, downwards only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryPath(PathBuf);

/// What lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    Folder,
    /// With its size in bytes.
    File(u64),
    Link(PathBuf),
}

impl EntryPath {
    /// Takes a path of a state, or of an archive.
    ///
    /// # Errors
    /// When it could lead anywhere else.
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
                _ => bail!("{} leads elsewhere", shown()),
            }
        }
        let first = names.first().and_then(|name| name.to_str());
        let first = first.with_context(|| format!("{} names nothing", shown()))?;
        ensure!(!is_own(first), "{} isn't of a backup", shown());
        // The same path in one way only.
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
            // A text for the machine. Nobody follows it, and the machine only within its chroot.
            Some(_) => self
                .0
                .parent()
                .is_some_and(|parent| parent.ends_with("chroot")),
            None => false,
        };
        ensure!(
            is_right,
            "{} is a symlink to {}, which no state has",
            self.0.display(),
            target.display()
        );
        Ok(())
    }
}

/// Whether an entry of a state is only there while something is done, and so isn't part of a backup.
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
