//! Files and folders of tests.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The names in a folder, sorted.
///
/// # Errors
/// If it can't be read.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Writes a file, and makes the folders in which it lies.
///
/// # Errors
/// If that fails.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)
}

/// Writes a program that anybody can run.
///
/// # Errors
/// If that fails.
pub fn write_program(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    write(path, content)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}
