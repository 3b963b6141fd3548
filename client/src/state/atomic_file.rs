//! Changes to files that are either wholly there after a power cut, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Writes a file aside and puts it in place in one step. `mode` is its permissions.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let aside = aside(path);
    let replace = || {
        remove_if_there(&aside)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&aside)?;
        // The umask must not decide who can read it.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_folder_of(path)
    };
    let replaced = replace().inspect_err(|_| {
        // Half a file mustn't take room on a disk that is full.
        let _ = fs::remove_file(&aside);
    });
    replaced.with_context(|| format!("can't write {}", path.display()))
}

/// Lets a symlink point to `target`, in one step.
pub(crate) fn point(link: &Path, target: &Path) -> anyhow::Result<()> {
    let aside = aside(link);
    let replace = || {
        remove_if_there(&aside)?;
        symlink(target, &aside)?;
        fs::rename(&aside, link)?;
        sync_folder_of(link)
    };
    replace().with_context(|| {
        format!(
            "can't make {} point to {}",
            link.display(),
            target.display()
        )
    })
}

/// Renames, and waits until the disk has it.
pub(crate) fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to)
        .and_then(|()| sync_folder_of(to))
        .with_context(|| format!("can't rename {} to {}", from.display(), to.display()))
}

/// Removes a file that may be missing.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes a file that may be missing, and waits until the disk knows.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    let remove = || match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    remove().with_context(|| format!("can't remove {}", path.display()))
}

/// Removes a folder that may be missing, with all that is in it.
pub(crate) fn remove_folder_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Reads a file that may be missing.
pub(crate) fn read_if_there(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)?.sync_all()
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_cut_short_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("installed.json");
        fs::write(folder.path().join("installed.json.new"), "half").unwrap();
        write(&path, b"whole", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );

        let link = folder.path().join("secrets");
        symlink("half", folder.path().join("secrets.new")).unwrap();
        for target in ["one", "two"] {
            point(&link, Path::new(target)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
