//! The image's files, in memory: where each lies, what it is, and where its bytes come from.
//!
//! A tree never has an entry below a symlink: whatever is added goes where the symlinks lead. So
//! the merged /usr of a host stays as it is, and what a layer writes is what a path finds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::links::{self, Followed};

/// Where a file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These.
    Text(&'static str),
    /// A file that this process can read. Its bytes are taken over unchanged.
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

/// What lies at a path. There are no owners, times and modes: an image has one rule for all of
/// them, see [`Entry::mode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Directory,
    /// A regular file.
    File {
        /// Its bytes.
        content: Content,
        /// Whether it can be executed.
        executable: bool,
    },
    /// A symlink, with its text.
    Symlink(PathBuf),
}

impl Entry {
    /// The permissions of this entry at this path. They depend on nothing else, so that a tree has
    /// the same ones however it was prepared (a Nix store knows neither 0755 nor the sticky bit).
    /// There is no setuid: nothing in the image changes its user by being started.
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

    fn means_the_same_as(&self, other: &Entry) -> Result<bool> {
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
    /// All entries by absolute path; a folder comes before what is in it.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_path(), entry))
    }

    /// The entry at a path, once symlinks are followed; and where that is.
    ///
    /// # Errors
    /// When symlinks loop.
    pub fn find(&self, path: &Path) -> Result<Option<(PathBuf, &Entry)>> {
        let real = self.follow(path)?.real;
        Ok(self.entries.get(&real).map(|entry| (real, entry)))
    }

    /// Adds an entry, and the folders that it lies in. Adding the same again changes nothing.
    ///
    /// # Errors
    /// When something else lies there already, or in the place of one of its folders; or when the
    /// name means "delete" in a layer.
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
            if !present.means_the_same_as(&entry)? {
                bail!(
                    "{} would be two things in the image: {present:?} and {entry:?}",
                    path.display()
                );
            }
        } else {
            self.entries.insert(path, entry);
        }
        Ok(())
    }

    /// The tree without the entry at `path`, and a tree of that entry and the folders it lies in.
    /// Both have these folders, because a layer's folder replaces the mode of the one below it.
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
    fn what_is_added_below_a_symlink_goes_where_it_leads() {
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
    fn the_same_twice_is_one_and_two_things_at_one_path_are_an_error() {
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
            assert!(error.starts_with("/a would be two things"), "{error}");
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
