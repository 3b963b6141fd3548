//! What is seen of the fleet folder in one look: each place once, whoever gets something of it. So machines that share
//! files see the same of them, however long the look takes, and a thousand of them cost the kernel what one does.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Rules;
use super::folder::{FleetFolder, Folder, Stamp};
use super::ignored::{BadPattern, Patterns};

/// The largest ignore file in bytes; git's own are a few kilobytes.
const MAX_IGNORE_FILE: u64 = 1 << 20;

/// All that was seen so far.
#[derive(Debug)]
pub(super) struct Survey<'f> {
    pub(super) fleet: &'f FleetFolder,
    folders: HashMap<PathBuf, Rc<io::Result<Folder>>>,
    targets: HashMap<PathBuf, Rc<io::Result<Target>>>,
    ignore_files: HashMap<PathBuf, Rc<Result<IgnoreFiles, Unusable>>>,
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
    pub(super) fn new(fleet: &'f FleetFolder) -> Self {
        let (folders, targets, ignore_files) = Default::default();
        Survey {
            fleet,
            folders,
            targets,
            ignore_files,
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
}

impl IgnoreFiles {
    /// As in git, one that is a symlink isn't followed.
    fn read(fleet: &FleetFolder, folder: &Path) -> Result<Self, Unusable> {
        let (mut texts, mut rules) = (Vec::new(), Vec::new());
        for name in [".gitignore", ".bentoignore"] {
            let path = folder.join(name);
            match fleet.text(&path, MAX_IGNORE_FILE, false) {
                Ok((text, stamp)) => {
                    texts.push(text);
                    rules.push((path, stamp));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Unusable::Unreadable(path, error)),
            }
        }
        let lines = texts.iter().flat_map(|text| text.lines());
        let patterns = match texts.is_empty() {
            true => None,
            false => Some(Patterns::new(lines).map_err(Unusable::Bad)?),
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
