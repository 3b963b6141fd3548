//! The plain files of a generation, with symlinks followed, for a client that knows only files and folders.

use std::collections::BTreeSet;

use bento_protocol::{Area, File, FilePath, Manifest, ManifestEntry};
use tracing::warn;

use crate::scan::real_path;

/// The most files that are added by following symlinks, and symlinks that are followed for them: symlinks to folders can
/// multiply a tree, also one without files.
const MAX_COPIES: usize = 10_000;

/// The files to which the symlinks of a generation lead, each with its path below the symlink. Dangling symlinks, and
/// those to a folder above them, are left out.
pub(super) fn copies(manifest: &Manifest) -> Vec<(FilePath, &File)> {
    let mut copies = Copies {
        manifest,
        found: Vec::new(),
        room: MAX_COPIES,
    };
    for entry in manifest.files() {
        if let ManifestEntry::Symlink(link) = entry {
            copies.follow(link.path().rest(), link.path().rest(), &mut Vec::new());
        }
    }
    if copies.room == 0 {
        let host = manifest.host();
        warn!(%host, "symlinks lead to more than {MAX_COPIES} files: some are missing among its plain files");
    }
    copies.found
}

/// The paths of the executable plain files of a generation.
pub fn executables(manifest: &Manifest) -> BTreeSet<String> {
    let files = manifest.files().iter().filter_map(ManifestEntry::file);
    let plain = files.map(|file| (file.path.clone(), file));
    let all = plain.chain(copies(manifest));
    all.filter(|(_, file)| file.executable)
        .map(|(path, _)| path.as_str().to_owned())
        .collect()
}

struct Copies<'m> {
    manifest: &'m Manifest,
    found: Vec<(FilePath, &'m File)>,
    /// The number of files and symlinks that may still be added.
    room: usize,
}

impl<'m> Copies<'m> {
    /// Adds the target of the symlink at `link`, with the path `seen`. `above` are the symlinks that were followed before.
    fn follow<'a>(&mut self, link: &'a str, seen: &str, above: &mut Vec<&'a str>)
    where
        'm: 'a,
    {
        self.room = self.room.saturating_sub(1);
        let Some(real) = real_path(link, |path| target_of(self.manifest, path)) else {
            return;
        };
        let is_file = FilePath::new(Area::Config, &real)
            .ok()
            .and_then(|path| self.manifest.file(&path)?.file());
        if let Some(file) = is_file {
            return self.add(seen, file);
        }
        let folder = if real.is_empty() {
            String::new()
        } else {
            real + "/"
        };
        above.push(link);
        let is_loop = above.iter().any(|link| link.starts_with(&folder));
        if !is_loop {
            self.folder(&folder, seen, above);
        }
        above.pop();
    }

    /// Adds everything below a folder, with the path `seen`.
    fn folder<'a>(&mut self, folder: &str, seen: &str, above: &mut Vec<&'a str>)
    where
        'm: 'a,
    {
        let prefix = format!("{}/{folder}", Area::Config.folder());
        let files = self.manifest.files();
        let first = files.partition_point(|entry| entry.path().as_str() < prefix.as_str());
        for entry in &files[first..] {
            let Some(below) = entry.path().as_str().strip_prefix(&prefix) else {
                return;
            };
            let seen = format!("{seen}/{below}");
            match entry {
                ManifestEntry::File(file) => self.add(&seen, file),
                ManifestEntry::Symlink(link) => self.follow(link.path().rest(), &seen, above),
            }
            if self.room == 0 {
                return;
            }
        }
    }

    fn add(&mut self, seen: &str, file: &'m File) {
        // Linux can't open a path that is too long.
        if let (1.., Ok(seen)) = (self.room, FilePath::new(Area::Config, seen)) {
            self.room -= 1;
            self.found.push((seen, file));
        }
    }
}

fn target_of<'m>(manifest: &'m Manifest, path: &str) -> Option<&'m str> {
    let path = FilePath::new(Area::Config, path).ok()?;
    Some(manifest.file(&path)?.symlink()?.target())
}

#[cfg(test)]
mod tests {
    use bento_protocol::{Digest, Policy, Symlink};
    use jiff::Timestamp;

    use super::*;

    fn seen(entries: &[(&str, Option<&str>)]) -> Vec<String> {
        let entries = entries.iter().map(|(path, target)| {
            let path = FilePath::new(Area::Config, path).unwrap();
            match target {
                Some(target) => {
                    ManifestEntry::from(Symlink::new(path, (*target).to_owned()).unwrap())
                }
                None => File {
                    path,
                    executable: false,
                    size: 0,
                    sha256: Digest::of(""),
                }
                .into(),
            }
        });
        let manifest = Manifest::new(
            "a".parse().unwrap(),
            Policy::default(),
            entries.collect::<Vec<_>>(),
            Timestamp::UNIX_EPOCH,
        );
        let manifest = manifest.unwrap();
        let copies = copies(&manifest);
        copies
            .iter()
            .map(|(seen, file)| format!("{} = {}", seen.rest(), file.path.rest()))
            .collect()
    }

    // Issue 10, line 3.
    #[test]
    fn symlinks_are_replaced_by_their_targets() {
        assert_eq!(
            seen(&[
                ("a/default.nix", Some("../pkgs/default.nix")),
                ("a/pkgs", Some("../pkgs")),
                ("dangling", Some("no/where")),
                ("loop", Some("loop")),
                ("pkgs/default.nix", None),
                ("pkgs/more", Some("../more")),
                ("pkgs/self", Some(".")),
                ("pkgs/top", Some("..")),
                ("more/x", None),
                ("pkgs-not", None),
            ]),
            [
                "a/default.nix = pkgs/default.nix",
                "a/pkgs/default.nix = pkgs/default.nix",
                "a/pkgs/more/x = more/x",
                "pkgs/more/x = more/x",
            ]
        );
    }

    #[test]
    fn symlinks_that_lead_to_each_other_end() {
        assert_eq!(
            seen(&[
                ("a/to-b", Some("../b")),
                ("a/x", None),
                ("b/to-a", Some("../a")),
            ]),
            ["b/to-a/x = a/x"]
        );
        // Each level doubles what lies below it.
        let paths: Vec<_> = (0..30)
            .flat_map(|level| {
                let target = format!("../{}", level + 1);
                ["x", "y"].map(|name| (format!("{level}/{name}"), target.clone()))
            })
            .collect();
        let mut entries: Vec<_> = paths
            .iter()
            .map(|(path, target)| (path.as_str(), Some(target.as_str())))
            .collect();
        assert_eq!(seen(&entries), [""; 0]);
        entries.push(("30/file", None));
        let count = seen(&entries).len();
        assert!((1000..MAX_COPIES).contains(&count), "{count}");
    }
}
