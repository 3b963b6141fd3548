//! The folders of a generation, as its sorted files pass.

use std::path::{Path, PathBuf};

use bento_protocol::{Area, FilePath, ManifestEntry};

/// A folder whose last file was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Folder<'a> {
    /// Whether it holds configuration or secrets.
    pub(crate) area: Area,
    /// Its path below its area's folder; empty for that folder itself.
    pub(crate) rest: &'a str,
    /// How many files and folders lie in it, not counting those that lie in its folders.
    pub(crate) entries: usize,
}

impl Folder<'_> {
    /// Where it lies, if its area's folder lies at `area`.
    pub(crate) fn path_in(&self, area: &Path) -> PathBuf {
        // To join nothing would add a slash, which follows a link.
        match self.rest {
            "" => area.to_owned(),
            rest => area.join(rest),
        }
    }
}

/// Gives each file and symlink to `pass`, and each folder to `leave` when its last file has passed; the areas' own folders also
/// where they are empty. Because the files are sorted, a folder's files follow one another, so that only the folders
/// of one file are ever remembered.
pub(crate) fn walk(
    files: impl Iterator<Item = anyhow::Result<ManifestEntry>>,
    pass: &mut dyn FnMut(&ManifestEntry) -> anyhow::Result<()>,
    leave: &mut dyn FnMut(Folder<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut empty = vec![Area::Config, Area::Secrets];
    let mut above = Above::default();
    for file in files {
        let file = file?;
        empty.retain(|area| *area != file.path().area());
        above.leave_for(Some(file.path()), leave)?;
        pass(&file)?;
        above.enter(file.path().clone());
    }
    above.leave_for(None, leave)?;
    empty.into_iter().try_for_each(|area| {
        leave(Folder {
            area,
            rest: "",
            entries: 0,
        })
    })
}

/// The folders above the last file.
#[derive(Default)]
struct Above {
    file: Option<FilePath>,
    /// How many entries each of them is known to have, outermost first.
    entries: Vec<usize>,
}

impl Above {
    /// Leaves those in which the next file isn't.
    fn leave_for(
        &mut self,
        next: Option<&FilePath>,
        leave: &mut dyn FnMut(Folder<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(last) = &self.file else {
            return Ok(());
        };
        for folder in last.folders() {
            if next.is_some_and(|next| is_below(next, folder)) {
                break;
            }
            leave(Folder {
                area: last.area(),
                rest: folder.split_once('/').map_or("", |(_, rest)| rest),
                entries: self.entries.pop().unwrap_or_default(),
            })?;
        }
        Ok(())
    }

    /// Enters those of the next file, and counts it.
    fn enter(&mut self, file: FilePath) {
        for _ in self.entries.len()..file.folders().count() {
            self.count();
            self.entries.push(0);
        }
        self.count();
        self.file = Some(file);
    }

    fn count(&mut self) {
        if let Some(innermost) = self.entries.last_mut() {
            *innermost += 1;
        }
    }
}

fn is_below(path: &FilePath, folder: &str) -> bool {
    path.as_str()
        .strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use bento_protocol::{Digest, File};

    use super::*;

    fn left(paths: &[&str]) -> Vec<String> {
        let files = paths.iter().map(|path| {
            let file = File {
                path: path.parse().unwrap(),
                executable: false,
                size: 0,
                sha256: Digest::of(""),
            };
            Ok(file.into())
        });
        let mut left = Vec::new();
        let mut passed = 0;
        walk(
            files,
            &mut |_| {
                passed += 1;
                Ok(())
            },
            &mut |folder| {
                left.push(format!(
                    "{}:{} {}",
                    folder.area.folder(),
                    folder.rest,
                    folder.entries
                ));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(passed, paths.len());
        left
    }

    #[test]
    fn each_folder_is_left_once_with_the_number_of_its_entries() {
        assert_eq!(left(&[]), ["config: 0", "secrets: 0"]);
        assert_eq!(
            left(&[
                "config/a",
                "config/b-c",
                "config/b/c/d/e",
                "config/b/c/f",
                "config/b/g",
                "config/b0/h",
            ]),
            [
                "config:b/c/d 1",
                "config:b/c 2",
                "config:b 2",
                "config:b0 1",
                "config: 4",
                "secrets: 0",
            ]
        );
        assert_eq!(
            left(&["config/a/b", "secrets/a/b"]),
            ["config:a 1", "config: 1", "secrets:a 1", "secrets: 1"]
        );
    }
}
