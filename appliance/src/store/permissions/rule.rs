use std::fs::{self, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::problem::Problem;

/// Advice if the appliance can't repair a path.
pub(super) const GIVE: &str = "give it, with its content, to the user who runs podman (sudo chown -R USER: FOLDER, where \
     `podman volume inspect` says which folder it is); owners and modes within it are then set right";

/// Advice after a check without a repair.
const CHECKED: &str = "a running appliance repairs it within half a minute; if it can't, its log and `bento status` show the reason";

/// The write permissions of group and others.
const CHANGE: u32 = 0o022;
const ALL: u32 = 0o7777;

/// The right owner, group and mode of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    path: PathBuf,
    group: Option<u32>,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Writable only for the owner, with at least these bits.
    Closed(u32),
    /// Exactly this mode.
    Exactly(u32),
    /// A symlink, which has no mode.
    Link,
}

impl Rule {
    /// A folder of root that nobody else can change, as sshd requires above a chroot.
    pub fn closed(path: impl Into<PathBuf>) -> Self {
        Self::new(path, None, Mode::Closed(0))
    }

    /// A closed folder that everybody may enter: sshd opens a file of keys as the user who logs in.
    pub fn passable(path: impl Into<PathBuf>) -> Self {
        Self::new(path, None, Mode::Closed(0o055))
    }

    /// A file of root that everybody can read and nobody else can change.
    pub fn readable(path: impl Into<PathBuf>) -> Self {
        Self::new(path, None, Mode::Exactly(0o644))
    }

    /// A path of root and this group, with this mode.
    pub fn exactly(path: impl Into<PathBuf>, group: u32, mode: u32) -> Self {
        Self::new(path, Some(group), Mode::Exactly(mode))
    }

    /// A symlink of root and this group.
    pub fn link(path: impl Into<PathBuf>, group: u32) -> Self {
        Self::new(path, Some(group), Mode::Link)
    }

    fn new(path: impl Into<PathBuf>, group: Option<u32>, mode: Mode) -> Self {
        let path = path.into();
        Rule { path, group, mode }
    }

    /// Whether its path exists.
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok()
    }

    /// Whether this is the rule for this path.
    pub fn is_of(&self, path: &Path) -> bool {
        self.path == path
    }

    /// Checks the path without changing it.
    ///
    /// # Errors
    /// When the path breaks the rule.
    pub fn check(&self) -> Result<bool, Problem> {
        match self.faults() {
            Ok(faults) if faults.is_empty() => Ok(false),
            Ok(faults) => Err(self.problem(faults.join(", and "), CHECKED)),
            Err(error) => Err(self.problem(error.to_string(), CHECKED)),
        }
    }

    /// Repairs the path: true if anything was wrong.
    ///
    /// # Errors
    /// When it can't be repaired.
    pub fn mend(&self) -> Result<bool, Problem> {
        let Err(found) = self.check() else {
            return Ok(false);
        };
        match self.set() {
            Ok(()) => self.check().map(|_| true),
            Err(error) => {
                let what = format!("{}, which can't be changed ({error})", found.what);
                Err(self.problem(what, GIVE))
            }
        }
    }

    fn faults(&self) -> io::Result<Vec<String>> {
        let found = fs::symlink_metadata(&self.path)?;
        let mut faults = Vec::new();
        if found.is_symlink() != (self.mode == Mode::Link) {
            return Err(io::Error::other(
                "is a symlink and must not be one, or the reverse",
            ));
        }
        if !is_roots(&found) {
            faults.push(format!("belongs to user {} instead of root", found.uid()));
        }
        if let Some(group) = self.group.filter(|group| *group != found.gid()) {
            faults.push(format!(
                "belongs to group {} instead of {group}",
                found.gid()
            ));
        }
        let mode = found.mode() & ALL;
        match self.mode {
            Mode::Exactly(right) if mode != right => {
                faults.push(format!("has mode {mode:04o} instead of {right:04o}"));
            }
            Mode::Closed(least) if mode & CHANGE != 0 || mode & least != least => {
                let right = self.right_mode(mode);
                faults.push(format!("has mode {mode:04o} instead of {right:04o}"));
            }
            _ => {}
        }
        Ok(faults)
    }

    fn right_mode(&self, found: u32) -> u32 {
        match self.mode {
            Mode::Exactly(mode) => mode,
            Mode::Closed(least) => (found & 0o755) | least | 0o600,
            Mode::Link => found,
        }
    }

    fn set(&self) -> io::Result<()> {
        if self.mode == Mode::Link {
            return lchown(&self.path, Some(0), self.group);
        }
        // Through a file descriptor, so that the path can't be replaced in between.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.cast_signed())
            .open(&self.path)?;
        let found = file.metadata()?;
        let owner = (!is_roots(&found)).then_some(0);
        if owner.is_some() || self.group.is_some_and(|group| group != found.gid()) {
            fchown(&file, owner, self.group)?;
        }
        // After the owner, because a change of owner clears bits.
        file.set_permissions(Permissions::from_mode(self.right_mode(found.mode() & ALL)))
    }

    fn problem(&self, what: String, advice: &str) -> Problem {
        Problem::new(self.path.display().to_string(), what, advice)
    }
}

/// Whether root is the owner, as sshd requires; outside of a container, the appliance's user may be.
fn is_roots(found: &Metadata) -> bool {
    found.uid() == 0 || found.uid() == geteuid().as_raw()
}
