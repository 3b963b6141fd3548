//! Extended attributes of a file: its access control list, and attributes of programs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

/// The attribute of the access control list.
const LIST: &str = "system.posix_acl_access";
/// The kernel's limit for a value and for the list of names, in bytes.
const LONGEST: usize = 64 << 10;

/// Copies the attributes of a file to the new file that will replace it.
///
/// # Errors
/// When an attribute can't be copied.
pub(super) fn copy(from: &Path, to: &File) -> io::Result<()> {
    let names = names(from)?;
    if !names.iter().any(|name| name == LIST) {
        // The folder's default list could let others read the new file.
        match fremovexattr(to, LIST) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for name in names.iter().filter(|name| is_kept(name)) {
        let value = filled(|buffer| getxattr(from, name, buffer));
        let kept = value.and_then(|value| fsetxattr(to, name, &value, XattrFlags::empty()));
        kept.map_err(|error| {
            let name = name.display();
            io::Error::other(format!(
                "can't keep its attribute {name} ({error}): edit the file by hand"
            ))
        })?;
    }
    Ok(())
}

/// Whether an attribute is copied; the system sets all others itself.
fn is_kept(name: &OsStr) -> bool {
    name == LIST || name.as_bytes().starts_with(b"user.")
}

fn names(path: &Path) -> io::Result<Vec<OsString>> {
    let list = match filled(|buffer| listxattr(path, buffer)) {
        Err(Errno::OPNOTSUPP) => Vec::new(),
        list => list?,
    };
    let names = list.split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    Ok(names
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect())
}

fn filled(
    read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; LONGEST];
    let size = read(&mut buffer)?;
    buffer.truncate(size);
    Ok(buffer)
}
