//! Cache of the fleet folder in one scan: each path is read once, for all machines. So machines that share files get
//! the same state of them, however long the scan takes, and a thousand machines cost the kernel as much as one.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::Rules;
use super::folder::{FleetFolder, Folder, Stamp};
use super::ignored::{BadPattern, Patterns};
use super::index::{self, Index};

/// The largest ignore file in bytes; git's own are a few kilobytes.
const MAX_IGNORE_FILE: u64 = 1 << 20;

/// Everything that was read so far.
#[derive(Debug)]
pub(super) struct Survey<'f> {
    pub(super) fleet: &'f FleetFolder,
    folders: HashMap<PathBuf, Rc<io::Result<Folder>>>,
    targets: HashMap<PathBuf, Rc<io::Result<Target>>>,
    ignore_files: HashMap<PathBuf, Rc<Result<IgnoreFiles, Unusable>>>,
    /// The index of the last scan.
    before: Arc<Index>,
    /// The index; none before it is read.
    index: Option<Rc<Result<Arc<Index>, index::Unreadable>>>,
}

/// A resolved path.
#[derive(Debug)]
pub(super) struct Target {
    /// Relative to the fleet folder, without symlinks.
    pub(super) real: PathBuf,
    pub(super) stamp: Stamp,
}

/// The ignore files of a folder.
#[derive(Debug)]
pub(super) struct IgnoreFiles {
    /// None if there are none.
    pub(super) patterns: Option<Patterns>,
    pub(super) rules: Vec<Rules>,
}

/// Why the ignore files of a folder can't be used.
#[derive(Debug)]
pub(super) enum Unusable {
    Unreadable(PathBuf, io::Error),
    Bad(BadPattern),
}

impl<'f> Survey<'f> {
    /// An empty cache, with the index of the last scan.
    pub(super) fn new(fleet: &'f FleetFolder, before: Arc<Index>) -> Self {
        let (folders, targets, ignore_files, index) = Default::default();
        Survey {
            fleet,
            folders,
            targets,
            ignore_files,
            before,
            index,
        }
    }

    /// The content of a folder, at a path without symlinks.
    pub(super) fn folder(&mut self, real: &Path) -> Rc<io::Result<Folder>> {
        once(&mut self.folders, real, || self.fleet.list(real))
    }

    /// A path with all symlinks resolved, including the last part.
    pub(super) fn target(&mut self, path: &Path) -> Rc<io::Result<Target>> {
        once(&mut self.targets, path, || {
            let found = self.fleet.find(path)?;
            Ok(Target {
                real: found.real,
                stamp: Stamp::of(&found.stat),
            })
        })
    }

    /// The ignore files of a folder.
    pub(super) fn ignore_files(&mut self, folder: &Path) -> Rc<Result<IgnoreFiles, Unusable>> {
        once(&mut self.ignore_files, folder, || {
            IgnoreFiles::read(self.fleet, folder)
        })
    }

    /// The index of git.
    pub(super) fn index(&mut self) -> Rc<Result<Arc<Index>, index::Unreadable>> {
        let read = || Rc::new(Index::read(self.fleet, Arc::clone(&self.before)));
        Rc::clone(self.index.get_or_insert_with(read))
    }

    /// The last index that was read.
    pub(super) fn into_index(self) -> Arc<Index> {
        match self.index.as_deref() {
            Some(Ok(index)) => Arc::clone(index),
            _ => self.before,
        }
    }
}

impl IgnoreFiles {
    /// Reads the ignore files of a folder. As in git, symlinks aren't followed.
    fn read(fleet: &FleetFolder, folder: &Path) -> Result<Self, Unusable> {
        let mut rules = Vec::new();
        let mut text = |name: &str| {
            let path = folder.join(name);
            match fleet.text(&path, MAX_IGNORE_FILE, false) {
                Ok((text, stamp)) => {
                    rules.push((path, stamp));
                    Ok(text)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
                Err(error) => Err(Unusable::Unreadable(path, error)),
            }
        };
        let (gitignore, bentoignore) = (text(".gitignore")?, text(".bentoignore")?);
        let patterns = match rules.is_empty() {
            true => None,
            false => Some(Patterns::new(&gitignore, &bentoignore).map_err(Unusable::Bad)?),
        };
        Ok(IgnoreFiles { patterns, rules })
    }
}

/// The cached value, or a new one.
fn once<T>(known: &mut HashMap<PathBuf, Rc<T>>, path: &Path, find: impl FnOnce() -> T) -> Rc<T> {
    if let Some(answer) = known.get(path) {
        return Rc::clone(answer);
    }
    let answer = Rc::new(find());
    known.insert(path.to_owned(), Rc::clone(&answer));
    answer
}
