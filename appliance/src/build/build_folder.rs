//! The folder in which Nix builds: configurations as the client would have them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use bento_nix::normal;
use bento_protocol::Area;
use tempfile::TempDir;

use crate::generation::{self, ReadError};
use crate::scan::{FleetFolder, HostTree};

/// A private temporary folder; removed on drop.
#[derive(Debug)]
pub(crate) struct BuildFolder(TempDir);

impl BuildFolder {
    /// Creates one in the folder for temporary files.
    ///
    /// # Errors
    /// When it can't be created, or its path can't be part of a flake reference.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("bento-build-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .with_context(|| format!("can't create a folder in {}", parent.display()))?;
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-');
        let plain = folder
            .path()
            .to_str()
            .is_some_and(|path| path.starts_with('/') && path.bytes().all(is_plain));
        ensure!(
            plain,
            "the path {} can't be part of a flake reference: set TMPDIR to a folder whose path has only letters, digits \
             and / . _ -",
            parent.display()
        );
        Ok(BuildFolder(folder))
    }

    /// The path of an entry.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the configuration of a tree, without secrets, to a folder of this name; returns the folder for Nix.
    ///
    /// # Errors
    /// When a file changed since the scan, or can't be read or written.
    pub(crate) fn write_tree(
        &self,
        name: &str,
        fleet: &FleetFolder,
        tree: &HostTree,
    ) -> anyhow::Result<PathBuf> {
        // The same name as on the client: without flakes, it can become part of a store path.
        let config = self.path(name).join(Area::Config.folder());
        fs::create_dir_all(&config)
            .and_then(|()| fs::set_permissions(&config, private()))
            .with_context(|| format!("can't create {}", config.display()))?;
        for file in tree.config() {
            write_file(fleet, file, &config.join(file.path.rest()))?;
        }
        set_modes(&config).with_context(|| format!("can't finish {}", config.display()))?;
        Ok(config)
    }
}

fn private() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o700)
}

fn write_file(
    fleet: &FleetFolder,
    file: &crate::scan::TreeFile,
    target: &Path,
) -> anyhow::Result<()> {
    let failed = || format!("can't write {}", target.display());
    target
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .with_context(failed)?;
    if let Some(link) = &file.symlink {
        return symlink(link.target(), target)
            .and_then(|()| normal::normalize_link(target))
            .with_context(failed);
    }
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .with_context(failed)?;
    let read = generation::read(fleet, file, |piece| copy.write_all(piece));
    match read {
        Ok(()) => {}
        Err(ReadError::Changed(_)) => bail!(
            "{} changed while it was read: try again when nobody writes there",
            file.real.display()
        ),
        Err(ReadError::Unreadable(problem)) => return Err(anyhow!("{problem}")),
        Err(ReadError::Output(error)) => return Err(error).with_context(failed),
    }
    normal::normalize(target, normal::file_mode(file.stamp.is_executable())).with_context(failed)
}

/// Sets modes and times of a folder and its subfolders as the client does. Subfolders come first, because changes in a
/// folder change its time.
fn set_modes(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            set_modes(&entry.path())?;
        }
    }
    normal::normalize(folder, normal::FOLDER_MODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_read_the_build_folder() {
        let build_folder = BuildFolder::new().unwrap();
        let mode = fs::metadata(build_folder.0.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o700);
    }
}
