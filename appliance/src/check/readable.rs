//! Files that the appliance's user can't read, which whoever checks as root doesn't notice.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::fs::lgetxattr_query;

use crate::fleet::FILE_NAME;
use crate::preview::Preview;
use crate::problem::Problem;

/// Who reads the fleet: in a rootless container, the user who started it, and no other group than that user's own. What
/// that user owns the appliance reads whatever its mode is: it may override that.
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

/// What the owner of the fleet folder, who is taken for the appliance's user, can't read. Nothing if that is the one who
/// checks: whatever is wrong then is an error already.
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
    // What machines share is looked at once.
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
        // Above a folder that was seen all were.
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
        // An access control list can grant what the mode doesn't.
        Ok(found) => may(&found) || has_list(path),
        // Gone by now.
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
            "{user}, whose the fleet folder is, can't read it, nor can the appliance that {user} runs"
        ),
        "give it to that user (chown), or let everybody read it (chmod)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_read_is_decided_as_the_kernel_does() {
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
