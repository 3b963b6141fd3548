//! What is seen of the fleet folder in one look: each place once, whoever gets something of it. So machines that share
//! files see the same of them, however long the look takes, and a thousand of them cost the kernel what one does.

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

/// All that was seen so far.
#[derive(Debug)]
pub(super) struct Survey<'f> {
    pub(super) fleet: &'f FleetFolder,
    folders: HashMap<PathBuf, Rc<io::Result<Folder>>>,
    targets: HashMap<PathBuf, Rc<io::Result<Target>>>,
    ignore_files: HashMap<PathBuf, Rc<Result<IgnoreFiles, Unusable>>>,
    /// What git tracked in the last look.
    before: Arc<Index>,
    /// What it tracks; none before that is asked.
    index: Option<Rc<Result<Arc<Index>, index::Unreadable>>>,
}

/// Where a path leads.
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
    /// With what git tracked in the last look.
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

    /// What lies in a folder, by a path without symlinks.
    pub(super) fn folder(&mut self, real: &Path) -> Rc<io::Result<Folder>> {
        once(&mut self.folders, real, || self.fleet.list(real))
    }

    /// Where a path leads, its last part included.
    pub(super) fn target(&mut self, path: &Path) -> Rc<io::Result<Target>> {
        once(&mut self.targets, path, || {
            let found = self.fleet.find(path)?;
            Ok(Target {
                real: found.real,
                stamp: Stamp::of(&found.stat),
            })
        })
    }

    /// The ignore files that lie in a folder.
    pub(super) fn ignore_files(&mut self, folder: &Path) -> Rc<Result<IgnoreFiles, Unusable>> {
        once(&mut self.ignore_files, folder, || {
            IgnoreFiles::read(self.fleet, folder)
        })
    }

    /// What git tracks.
    pub(super) fn index(&mut self) -> Rc<Result<Arc<Index>, index::Unreadable>> {
        let read = || Rc::new(Index::read(self.fleet, Arc::clone(&self.before)));
        Rc::clone(self.index.get_or_insert_with(read))
    }

    /// What git tracks, as it was read last.
    pub(super) fn into_index(self) -> Arc<Index> {
        match self.index.as_deref() {
            Some(Ok(index)) => Arc::clone(index),
            _ => self.before,
        }
    }
}

impl IgnoreFiles {
    /// As in git, one that is a symlink isn't followed.
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

/// The answer that is known, or that is found now.
fn once<T>(known: &mut HashMap<PathBuf, Rc<T>>, path: &Path, find: impl FnOnce() -> T) -> Rc<T> {
    if let Some(answer) = known.get(path) {
        return Rc::clone(answer);
    }
    let answer = Rc::new(find());
    known.insert(path.to_owned(), Rc::clone(&answer));
    answer
}
