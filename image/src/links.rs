//! Resolution of symlinks in a tree other than the machine's own root: another root folder, or a
//! tree in memory. The kernel would follow an absolute link out of it.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail, ensure};

/// The most symlinks that Linux follows in one path (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A resolved path.
#[derive(Debug)]
pub struct Followed {
    /// Each symlink on the way: its path, without symlinks, and its target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The absolute path after all of them, which needn't exist.
    pub real: PathBuf,
}

/// Follows every symlink in the absolute `path`. `target_of` returns a symlink's target, and `None`
/// for anything else, including missing paths.
///
/// # Errors
/// When `path` is relative, when symlinks loop, and when `target_of` fails.
pub fn follow(
    path: &Path,
    mut target_of: impl FnMut(&Path) -> Result<Option<PathBuf>>,
) -> Result<Followed> {
    ensure!(
        path.is_absolute(),
        "{} isn't an absolute path",
        path.display()
    );
    let mut links = Vec::new();
    let mut real = PathBuf::from("/");
    let mut rest = parts_reversed(path);
    while let Some(part) = rest.pop() {
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(part);
        let Some(target) = target_of(&next)? else {
            real = next;
            continue;
        };
        if links.len() == MOST_LINKS {
            bail!("{}: too many symlinks, do they loop?", path.display());
        }
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        rest.extend(parts_reversed(&target));
        links.push((next, target));
    }
    Ok(Followed { links, real })
}

fn parts_reversed(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn follow_in(links: &[(&str, &str)], path: &str) -> Result<Followed> {
        let links: HashMap<PathBuf, PathBuf> = links
            .iter()
            .map(|(at, target)| (at.into(), target.into()))
            .collect();
        follow(Path::new(path), |at| Ok(links.get(at).cloned()))
    }

    #[test]
    fn the_loader_of_a_merged_debian_is_found_behind_three_links() {
        let links = [
            ("/lib", "usr/lib"),
            ("/lib64", "usr/lib64"),
            ("/usr/lib64/ld.so", "/lib/x86/ld.so"),
        ];
        let followed = follow_in(&links, "/lib64/ld.so").unwrap();
        assert_eq!(followed.real, Path::new("/usr/lib/x86/ld.so"));
        let met: Vec<_> = followed.links.iter().map(|(at, _)| at.as_path()).collect();
        assert_eq!(
            met,
            [
                Path::new("/lib64"),
                Path::new("/usr/lib64/ld.so"),
                Path::new("/lib")
            ]
        );
    }

    #[test]
    fn two_dots_leave_the_folder_behind_the_link_and_stop_at_the_root() {
        let links = [("/a", "/b/c")];
        assert_eq!(
            follow_in(&links, "/a/../d").unwrap().real,
            Path::new("/b/d")
        );
        assert_eq!(follow_in(&[], "/../../x").unwrap().real, Path::new("/x"));
    }

    #[test]
    fn a_loop_and_a_relative_path_are_errors() {
        let error = follow_in(&[("/a", "b"), ("/b", "a")], "/a").unwrap_err();
        assert!(error.to_string().contains("/a: too many symlinks"));
        assert!(follow_in(&[], "a").is_err());
    }
}
