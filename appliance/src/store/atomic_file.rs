//! Files that are wholly old or wholly new, also after a power loss: write aside, fsync, rename, fsync the folder.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

/// What is written aside has this extension until it gets its name.
const ASIDE: &str = "new";

/// Where something is written before it gets its name.
pub fn aside(path: &Path) -> PathBuf {
    path.with_added_extension(ASIDE)
}

/// Removes what a crash left aside in a folder, if there is such a folder.
pub fn remove_asides(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(ASIDE)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Replaces a file's content.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, None)
}

/// Replaces a file's content with something that everybody may read, whatever the umask of who runs this.
pub fn write_for_all(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, Some(Permissions::from_mode(0o644)))
}

fn replace(path: &Path, content: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    let aside = aside(path);
    let write_aside = || {
        let mut file = File::create(&aside)?;
        permissions.map_or(Ok(()), |permissions| file.set_permissions(permissions))?;
        file.write_all(content)?;
        file.sync_all()
    };
    write_aside().inspect_err(|_| {
        // Half a file mustn't take the room that is missing; that it can't be removed is no other error.
        let _ = fs::remove_file(&aside);
    })?;
    rename(&aside, path)
}

/// Replaces a file's content with JSON.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write(path, &to_json(value)?)
}

/// JSON as it is written for people, too.
pub fn to_json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(json)
}

/// Reads JSON; none when there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renames over whatever is there, and makes that last.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder_of(to)
}

/// Removes a file if it is there, and makes that last.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a file, a symlink, or a folder with all that is in it, if it is there.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes the names in the folder of `path` last: a path without a folder is one in the current folder.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_bare_file_name_is_the_current_one() {
        sync_folder_of(Path::new("archive.tar")).unwrap();
    }
}
