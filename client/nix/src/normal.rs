//! Metadata of source files for Nix: the same on every machine, at any time.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// The permissions of a folder.
pub const FOLDER_MODE: u32 = 0o755;

/// The permissions of a file: Nix only distinguishes executable files.
pub fn file_mode(executable: bool) -> u32 {
    match executable {
        false => 0o644,
        true => 0o755,
    }
}

/// The modification time of every source file.
pub fn the_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1)
}

/// Sets the permissions of a file or a folder, and [`the_time`].
///
/// # Errors
/// When it can't be opened or changed.
pub fn normalize(path: &Path, mode: u32) -> std::io::Result<()> {
    let file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_modified(the_time())
}

/// Sets [`the_time`] of a symlink itself; its permissions mean nothing.
///
/// # Errors
/// When it can't be changed.
pub fn normalize_link(path: &Path) -> std::io::Result<()> {
    let time = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
