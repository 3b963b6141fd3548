//! Warnings about files that the appliance's user can't read, for a check as root.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::fs::lgetxattr_query;

use crate::fleet::FILE_NAME;
use crate::preview::Preview;
use crate::problem::Problem;

/// The reader of the fleet: in a rootless container, the user who started it, with that user's own group only. The
/// appliance can read that user's files with any mode.
#[derive(Debug, Clone, Copy)]
struct Reader {
    uid: u32,
    gid: u32,
}

const READ: u32 = 0o4;
const READ_AND_SEARCH: u32 = 0o5;

impl Reader {
    fn may(self, uid: u32, gid: u32, mode: u32, wanted: u32) -> bool {
        let granted = if gid == self.gid { mode >> 3 } else { mode };
        uid == self.uid || granted & wanted == wanted
    }
}

/// The files that the owner of the fleet folder, the likely user of the appliance, can't read. Empty if that is the
/// current user, for whom such a file is already an error.
pub(super) fn unreadable(folder: &Path, preview: &Preview) -> Vec<Problem> {
    let Ok(owner) = folder.metadata() else {
        return Vec::new();
    };
    let uid = owner.uid();
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return Vec::new();
    }
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let gid = user.as_ref().map_or(owner.gid(), |user| user.gid.as_raw());
    let reader = Reader { uid, gid };
    let name = user.map_or(uid.to_string(), |user| user.name);
    // Shared files are checked once.
    let mut checked = HashSet::new();
    let host_previews = preview.machines.values().flatten();
    let files = host_previews
        .flat_map(|host_preview| [host_preview.tree.config(), host_preview.tree.secrets()])
        .filter(|files| checked.insert(files.as_ptr()))
        .flatten()
        .map(|file| file.real.as_path());
    let mut seen: HashSet<&Path> = HashSet::new();
    let mut shut: Vec<PathBuf> = Vec::new();
    for file in files.chain([Path::new(FILE_NAME)]) {
        // The parents of a checked folder are checked, too.
        let new = file.ancestors().take_while(|path| seen.insert(path));
        for path in new {
            let wanted = if path == file { READ } else { READ_AND_SEARCH };
            if !may_read(reader, &folder.join(path), wanted) {
                shut.push(path.to_owned());
            }
        }
    }
    shut.iter().map(|path| warning(path, &name)).collect()
}

fn may_read(reader: Reader, path: &Path, wanted: u32) -> bool {
    let may = |found: &Metadata| reader.may(found.uid(), found.gid(), found.mode(), wanted);
    match path.symlink_metadata() {
        // An access control list may grant more than the mode.
        Ok(found) => may(&found) || has_list(path),
        // Removed in the meantime.
        Err(_) => true,
    }
}

fn has_list(path: &Path) -> bool {
    lgetxattr_query(path, "system.posix_acl_access").is_ok_and(|bytes| bytes > 0)
}

fn warning(path: &Path, user: &str) -> Problem {
    let place = if path == Path::new("") {
        Path::new(".")
    } else {
        path
    };
    Problem::new(
        place.to_string_lossy(),
        format!(
            "the owner of the fleet folder, {user}, can't read it, nor can that user's appliance"
        ),
        "change its owner (chown) or its mode (chmod)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_access_follows_the_rules_of_the_kernel() {
        let reader = Reader {
            uid: 1000,
            gid: 100,
        };
        for (uid, gid, mode, may) in [
            (1000, 100, 0o000, true),
            (0, 0, 0o644, true),
            (0, 0, 0o640, false),
            (0, 100, 0o640, true),
            (0, 100, 0o604, false),
            (0, 0, 0o600, false),
        ] {
            assert_eq!(
                reader.may(uid, gid, mode, READ),
                may,
                "{uid} {gid} {mode:o}"
            );
        }
        assert!(!reader.may(0, 0, 0o754, READ_AND_SEARCH));
        assert!(reader.may(0, 0, 0o755, READ_AND_SEARCH));
    }
}
