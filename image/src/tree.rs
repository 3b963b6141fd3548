//! A tree of files in memory: the path, kind and content of each.
//!
//! A tree never has an entry below a symlink: symlinks in the path of a new entry are followed. So
//! the merged /usr of a host stays as it is, and no entry of a layer replaces a symlink.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::links::{self, Followed};

/// The source of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A constant.
    Text(&'static str),
    /// A file that this process can read.
    Copy(PathBuf),
}

impl Content {
    /// The bytes.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Content::Text(text) => Ok(text.as_bytes().to_vec()),
            Content::Copy(file) => {
                fs::read(file).with_context(|| format!("reading {}", file.display()))
            }
        }
    }
}

/// A folder, file or symlink. It has no owner, time or mode: they follow from rules, see
/// [`Entry::mode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Directory,
    /// A regular file.
    File {
        /// Its bytes.
        content: Content,
        /// Whether it is executable.
        executable: bool,
    },
    /// A symlink, with its target.
    Symlink(PathBuf),
}

impl Entry {
    /// The mode of this entry at this path. It depends on nothing else, so that every way to
    /// prepare a tree gives the same modes (a Nix store has neither 0755 nor the sticky bit). There
    /// is no setuid: no program in the image changes its user when it is run.
    pub fn mode(&self, path: &Path) -> u32 {
        match self {
            Entry::Directory if path == Path::new("/tmp") => 0o1777,
            Entry::Symlink(_) => 0o777,
            Entry::Directory
            | Entry::File {
                executable: true, ..
            } => 0o755,
            Entry::File { .. } => 0o644,
        }
    }

    fn is_equivalent_to(&self, other: &Entry) -> Result<bool> {
        match (self, other) {
            (
                Entry::File {
                    content: one,
                    executable: x,
                },
                Entry::File {
                    content: two,
                    executable: y,
                },
            ) => Ok(x == y && (one == two || one.read()? == two.read()?)),
            _ => Ok(self == other),
        }
    }
}

/// A tree of files. The root itself isn't an entry.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// All entries by absolute path; a folder comes before its entries.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_path(), entry))
    }

    /// The entry at a path, after following symlinks, with its path.
    ///
    /// # Errors
    /// When symlinks loop.
    pub fn find(&self, path: &Path) -> Result<Option<(PathBuf, &Entry)>> {
        let real = self.follow(path)?.real;
        Ok(self.entries.get(&real).map(|entry| (real, entry)))
    }

    /// Adds an entry, and the folders above it. Adding the same again changes nothing.
    ///
    /// # Errors
    /// When another entry has the path of this one, or of one of its folders; or when the name
    /// means "delete" in a layer.
    pub fn add(&mut self, path: &Path, entry: Entry) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(()); // the root
        };
        ensure!(
            !name.as_encoded_bytes().starts_with(b".wh."),
            "{}: in an image's layer, a name that starts with .wh. stands for a deleted file",
            path.display()
        );
        let parent = self.follow(parent)?.real;
        for folder in parent.ancestors() {
            if folder.parent().is_some() {
                self.put(folder.to_owned(), Entry::Directory)?;
            }
        }
        self.put(parent.join(name), entry)
    }

    fn put(&mut self, path: PathBuf, entry: Entry) -> Result<()> {
        if let Some(present) = self.entries.get(&path) {
            if !present.is_equivalent_to(&entry)? {
                bail!(
                    "{} is twice in the image, as {present:?} and as {entry:?}",
                    path.display()
                );
            }
        } else {
            self.entries.insert(path, entry);
        }
        Ok(())
    }

    /// The tree without the entry at `path`, and a tree of that entry and the folders above it.
    /// Both have these folders, because a layer's folder replaces the mode of the lower layer's.
    pub fn split(&self, path: &Path) -> (Tree, Tree) {
        let (mut below, mut top) = (Tree::default(), Tree::default());
        for (at, entry) in &self.entries {
            if at != path {
                below.entries.insert(at.clone(), entry.clone());
            }
            if path.starts_with(at) {
                top.entries.insert(at.clone(), entry.clone());
            }
        }
        (below, top)
    }

    fn follow(&self, path: &Path) -> Result<Followed> {
        links::follow(path, |at| {
            Ok(match self.entries.get(at) {
                Some(Entry::Symlink(target)) => Some(target.clone()),
                _ => None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Entry {
        Entry::File {
            content: Content::Text(text),
            executable: false,
        }
    }

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.entries()
            .map(|(path, _)| path.to_str().unwrap())
            .collect()
    }

    #[test]
    fn an_entry_below_a_symlink_is_added_at_its_target() {
        let mut tree = Tree::default();
        tree.add(Path::new("/lib"), Entry::Symlink("usr/lib".into()))
            .unwrap();
        tree.add(Path::new("/lib/x/../y"), text("y")).unwrap();
        assert_eq!(paths(&tree), ["/lib", "/usr", "/usr/lib", "/usr/lib/y"]);
        let (real, entry) = tree.find(Path::new("/lib/y")).unwrap().unwrap();
        assert_eq!(
            (real.as_path(), entry),
            (Path::new("/usr/lib/y"), &text("y"))
        );
    }

    #[test]
    fn the_same_entry_can_be_added_again_and_another_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        fs::write(&copy, "a").unwrap();
        let copied = Entry::File {
            content: Content::Copy(copy),
            executable: false,
        };
        let mut tree = Tree::default();
        tree.add(Path::new("/a"), text("a")).unwrap();
        tree.add(Path::new("/a"), copied).unwrap();
        assert_eq!(paths(&tree), ["/a"]);
        for other in [text("b"), Entry::Directory, Entry::Symlink("b".into())] {
            let error = tree.add(Path::new("/a"), other).unwrap_err().to_string();
            assert!(error.starts_with("/a is twice in the image"), "{error}");
        }
        assert!(tree.add(Path::new("/a/below"), text("")).is_err());
    }

    #[test]
    fn modes_follow_from_kind_and_path_alone() {
        let executable = Entry::File {
            content: Content::Text(""),
            executable: true,
        };
        assert_eq!(executable.mode(Path::new("/usr/bin/bento")), 0o755);
        assert_eq!(text("").mode(Path::new("/etc/nsswitch.conf")), 0o644);
        assert_eq!(Entry::Directory.mode(Path::new("/state")), 0o755);
        assert_eq!(Entry::Directory.mode(Path::new("/tmp")), 0o1777);
    }

    #[test]
    fn a_name_that_deletes_is_refused() {
        let error = Tree::default()
            .add(Path::new("/usr/.wh.bin"), text(""))
            .unwrap_err();
        assert!(error.to_string().contains("/usr/.wh.bin"), "{error}");
    }

    #[test]
    fn a_split_repeats_the_folders_above_and_nothing_else() {
        let mut tree = Tree::default();
        for path in ["/usr/bin/a", "/usr/bin/b", "/usr/c"] {
            tree.add(Path::new(path), text("")).unwrap();
        }
        let (below, top) = tree.split(Path::new("/usr/bin/b"));
        assert_eq!(paths(&below), ["/usr", "/usr/bin", "/usr/bin/a", "/usr/c"]);
        assert_eq!(paths(&top), ["/usr", "/usr/bin", "/usr/bin/b"]);
    }
}
