use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use rustix::fs::{FlockOperation, flock};

use super::super::fleet_folder::{read_settings, unwritable};
use super::attributes;
use crate::fleet::edit::EditError;
use crate::fleet::{self, FILE_NAME, Reading};
use crate::problem::Problem;
use crate::store::atomic_file;

/// The `fleet.toml` of a fleet folder, as it was read.
#[derive(Debug)]
pub(super) struct SettingsFile {
    path: PathBuf,
    text: String,
}

impl SettingsFile {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(SettingsFile {
            path: folder.join(FILE_NAME),
            text: read_settings(folder)?,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Parses the file.
    ///
    /// # Errors
    /// When the file as a whole is unusable.
    pub(super) fn reading(&self) -> anyhow::Result<Reading> {
        fleet::read(&self.text).map_err(|problems| anyhow!("{}", lines(&problems)))
    }

    /// Replaces the file with an edited text, unless that has a new problem.
    ///
    /// # Errors
    /// When it can't be edited or written, or would become invalid; then it is unchanged.
    pub(super) fn replace(&self, edited: Result<String, EditError>) -> anyhow::Result<Reading> {
        let edited = edited.with_context(|| format!("{FILE_NAME} is unchanged"))?;
        let reading = fleet::read(&edited).map_err(|problems| {
            anyhow!(
                "{FILE_NAME} is unchanged, because it has errors:\n{}",
                lines(&problems)
            )
        })?;
        // Line numbers change, so problems are compared by their text. The new problem may be another machine's: of two
        // machines with the same key, the later one is refused.
        let known = fleet::read(&self.text)
            .map(|reading| reading.problems)
            .unwrap_or_default();
        let is_new = |problem: &&Problem| {
            !known
                .iter()
                .any(|old| (&old.host, &old.what) == (&problem.host, &problem.what))
        };
        if let Some(problem) = reading.problems.iter().find(is_new) {
            bail!("{FILE_NAME} is unchanged, because the change would cause an error: {problem}");
        }
        if edited != self.text {
            self.write(&edited)
                .map_err(|error| unwritable(&self.path, error))?;
        }
        Ok(reading)
    }
}

impl SettingsFile {
    /// Replaces the file, if it is still the same: a concurrent change must not be lost.
    fn write(&self, edited: &str) -> io::Result<()> {
        let path = fs::canonicalize(&self.path)?;
        let folder = fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
        // Held until the return.
        flock(&folder, FlockOperation::LockExclusive)?;
        if fs::read_to_string(&path)? != self.text {
            return Err(io::Error::other(
                "it was changed in the meantime: try again",
            ));
        }
        replace(&path, edited)
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Replaces a file atomically, and keeps its owner, mode and attributes.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let old = fs::metadata(path)?;
    // A name that is never published, even after a crash.
    let aside = path.with_file_name(format!(".{FILE_NAME}.{}.swp", std::process::id()));
    atomic_file::remove(&aside)?;
    let write_aside = || {
        // A new file, so that another user of this folder can't redirect the write with a symlink.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(text.as_bytes())?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid())).map_err(|error| {
                match error.kind() {
                    ErrorKind::PermissionDenied => io::Error::other(
                        "it belongs to another user or group: run this as its owner",
                    ),
                    _ => error,
                }
            })?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        attributes::copy(path, &file)?;
        file.sync_all()
    };
    write_aside().inspect_err(|_| {
        // The first error is returned; a leftover file is never published.
        let _ = fs::remove_file(&aside);
    })?;
    atomic_file::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    const LIST: &str = "system.posix_acl_access";

    /// An access control list as the kernel keeps it: 1 is the owner, 2 a user, 4 the group, 0x10 the mask, 0x20
    /// others.
    fn list_for(user: u32) -> Vec<u8> {
        let entries: [(u16, u16, u32); 5] = [
            (1, 6, u32::MAX),
            (2, 4, user),
            (4, 4, u32::MAX),
            (0x10, 4, u32::MAX),
            (0x20, 0, u32::MAX),
        ];
        let entries = entries.into_iter().flat_map(|(tag, may, who)| {
            let [tag, may] = [tag, may].map(u16::to_le_bytes);
            [&tag[..], &may, &who.to_le_bytes()].concat()
        });
        2_u32.to_le_bytes().into_iter().chain(entries).collect()
    }

    fn lists(path: &Path) -> Option<Vec<u8>> {
        let mut buffer = [0; 256];
        let size = rustix::fs::getxattr(path, LIST, &mut buffer[..]).ok()?;
        Some(buffer[..size].to_vec())
    }

    #[test]
    fn the_access_control_list_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let text = "[server]\naddress = \"x\"\n";
        let edit = |name: &str| {
            let file = SettingsFile::open(folder.path()).unwrap();
            let edited = format!("{}[hosts.{name}]\n", file.text());
            file.replace(Ok(edited)).unwrap();
        };
        let attach = |path: &Path, name: &str, user| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path, name, &list_for(user), flags).unwrap();
        };
        fs::write(&path, text).unwrap();
        attach(&path, LIST, 1234);
        edit("a");
        assert_eq!(lists(&path), Some(list_for(1234)));
        fs::remove_file(&path).unwrap();
        fs::write(&path, text).unwrap();
        attach(folder.path(), "system.posix_acl_default", 4321);
        edit("a");
        assert_eq!(lists(&path), None, "new files in that folder have one");
    }

    #[test]
    fn a_symlink_can_not_redirect_the_write() {
        let folder = tempfile::tempdir().unwrap();
        let target = tempfile::NamedTempFile::new().unwrap();
        fs::write(folder.path().join(FILE_NAME), "[server]\naddress = \"x\"\n").unwrap();
        let aside = format!(".{FILE_NAME}.{}.swp", std::process::id());
        symlink(target.path(), folder.path().join(aside)).unwrap();
        let file = SettingsFile::open(folder.path()).unwrap();
        let edited = format!("{}[hosts.a]\n", file.text());
        file.replace(Ok(edited.clone())).unwrap();
        assert_eq!(fs::read_to_string(target.path()).unwrap(), "");
        let path = folder.path().join(FILE_NAME);
        assert!(!path.is_symlink());
        assert_eq!(fs::read_to_string(path).unwrap(), edited);
    }

    #[test]
    fn a_symlink_stays_one_and_the_file_keeps_its_owner_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        let checkout = tempfile::tempdir().unwrap();
        let real = checkout.path().join("mine.toml");
        let text = "[server]\naddress = \"x\"\n";
        fs::write(&real, text).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&real, Some(1234), Some(4321)).unwrap();
        }
        let before = fs::metadata(&real).unwrap();
        let link = folder.path().join(FILE_NAME);
        symlink(&real, &link).unwrap();
        let file = SettingsFile::open(folder.path()).unwrap();
        let edited = format!("{text}[hosts.a]\n");
        file.replace(Ok(edited.clone())).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), real);
        assert_eq!(fs::read_to_string(&real).unwrap(), edited);
        let after = fs::metadata(&real).unwrap();
        assert_ne!(after.ino(), before.ino(), "it is replaced atomically");
        let late = file.replace(Ok(format!("{text}[hosts.b]\n"))).unwrap_err();
        assert!(format!("{late:#}").contains("in the meantime"), "{late:#}");
        assert_eq!(fs::read_to_string(&real).unwrap(), edited);
        let left: Vec<_> = fs::read_dir(checkout.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let of = |file: &fs::Metadata| (file.uid(), file.gid(), file.mode());
        assert_eq!(of(&after), of(&before));
        assert_eq!(fs::read_dir(checkout.path()).unwrap().count(), 1);
        assert!(file.replace(Ok(format!("{text}[host.a]\n"))).is_err());
        assert_eq!(fs::read_to_string(&real).unwrap(), edited);
    }
}
