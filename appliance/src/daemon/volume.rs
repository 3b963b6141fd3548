//! The volume of the state: whether it can be written, and outlives the container.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs};

/// The numbers of tmpfs and ramfs in `statfs` (linux/magic.h).
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
/// The process id of the first process of a container; elsewhere it is the init of the machine.
const FIRST: u32 = 1;

/// The medium of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    /// A disk, as far as is known.
    Lasting,
    /// The container's own root: podman removes it with the container.
    Container,
    /// Memory.
    Memory,
}

/// The fault of the state's folder, with the podman option that corrects it; none if it can be written to and, unless
/// `ephemeral`, outlives the container. The folder is created if it is missing.
pub fn fault(state: &Path, ephemeral: bool) -> Option<String> {
    let shown = state.display();
    if let Err(error) = fs::create_dir_all(state) {
        return Some(format!(
            "{shown} is missing and can't be made ({error}): {}",
            advice(state, ephemeral)
        ));
    }
    match medium(state) {
        Err(error) => {
            return Some(format!(
                "the filesystem of {shown} can't be determined: {error}"
            ));
        }
        Ok(_) if ephemeral => {}
        Ok(medium) => {
            if let Some(cause) = transience(medium) {
                return Some(format!(
                    "{shown} {cause}, so that the host key and all reports would go with it: {}",
                    advice(state, ephemeral)
                ));
            }
        }
    }
    match access(state, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => None,
        Err(rustix::io::Errno::ROFS) => Some(format!(
            "{shown} is read-only: {}",
            advice(state, ephemeral)
        )),
        Err(error) => Some(format!(
            "{shown} can't be written to by the container's root ({error}): give its folder to the user who runs \
             podman, or {}",
            advice(state, ephemeral)
        )),
    }
}

fn transience(medium: Medium) -> Option<&'static str> {
    match medium {
        Medium::Lasting => None,
        Medium::Container => Some("is no volume but a part of the container"),
        Medium::Memory => Some("lies in memory"),
    }
}

fn advice(state: &Path, ephemeral: bool) -> String {
    let shown = state.display();
    if ephemeral {
        return format!("run it with --tmpfs={shown}");
    }
    format!(
        "run it with --volume=bento-state:{shown} (Volume=bento-state:{shown} in a quadlet), without :ro or --tmpfs; \
         only to try it out, with bento serve --ephemeral"
    )
}

fn medium(state: &Path) -> io::Result<Medium> {
    // The type of the field differs from one architecture to another; all of these numbers have 32 bits.
    let kind = statfs(state)?.f_type as u32;
    if IN_MEMORY.contains(&kind) {
        return Ok(Medium::Memory);
    }
    let mounts = fs::read("/proc/self/mountinfo")?;
    let is_first = std::process::id() == FIRST;
    // The type of the container's root depends on podman's storage driver; its mount point doesn't.
    let point = mount_point(&mounts, &state.canonicalize()?);
    if is_first && point.is_none_or(|point| point == Path::new("/")) {
        return Ok(Medium::Container);
    }
    Ok(Medium::Lasting)
}

/// The mount point of the filesystem of a path: the longest one that leads to it.
fn mount_point(mounts: &[u8], path: &Path) -> Option<PathBuf> {
    mounts
        .split(|byte| *byte == b'\n')
        // The fields: mount id, parent id, device, root in it, mount point.
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescaped)
        .filter(|point| path.starts_with(point))
        .max_by_key(|point| point.components().count())
}

/// Replaces `\ooo`, as which the kernel writes spaces, tabs, line breaks and backslashes.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        bytes.push(code.unwrap_or(*first));
        rest = code.map_or(after, |_| &after[3..]);
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
22 1 0:20 / / ro,relatime - overlay overlay rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
24 22 254:1 /volumes/a/_data /state rw,relatime - ext4 /dev/vda rw
25 22 254:1 /b /with\\040space rw shared:1 master:2 - ext4 /dev/vda rw
";

    #[test]
    fn a_volume_differs_from_the_containers_own_root() {
        for (path, point) in [
            ("/state", "/state"),
            ("/state/deep/below", "/state"),
            ("/stateful", "/"),
            ("/with space", "/with space"),
            ("/with\\040space", "/"),
            ("/", "/"),
        ] {
            assert_eq!(
                mount_point(MOUNTS, path.as_ref()),
                Some(point.into()),
                "{path}"
            );
        }
        assert_eq!(mount_point(b"garbage\n", "/state".as_ref()), None);
    }

    #[test]
    fn the_mount_points_of_this_machine_are_all_found() {
        let mounts = fs::read("/proc/self/mountinfo").unwrap();
        let proc = mount_point(&mounts, "/proc/self/mountinfo".as_ref());
        assert!(proc.unwrap().starts_with("/proc"));
        assert!(mount_point(&mounts, "/".as_ref()).is_some());
    }

    #[test]
    fn a_state_in_memory_is_refused_unless_it_is_ephemeral() {
        // A tmpfs on every Linux.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let state = folder.path().join("state");
        let fault = super::fault(&state, false).unwrap();
        assert!(fault.contains("lies in memory"), "{fault}");
        assert!(
            fault.contains(&format!("--volume=bento-state:{}", state.display())),
            "{fault}"
        );
        assert_eq!(super::fault(&state, true), None);
    }

    #[test]
    fn a_path_that_can_not_be_a_folder_is_a_fault() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fault = super::fault(&file.path().join("state"), true).unwrap();
        assert!(
            fault.contains("is missing") && fault.contains("--tmpfs="),
            "{fault}"
        );
    }
}
