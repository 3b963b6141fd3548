//! The current problems: a file for `bento status`, and one log line for each when it is new.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bento_protocol::HostName;
use tracing::{error, info, warn};

use crate::metrics::counters::Counters;
use crate::problem::{Problem, lines};
use crate::store::atomic_file;
use crate::store::paths::Runtime;

/// A source of problems. It sets all of its problems at once, and so clears those that are over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProblemSource {
    /// `fleet.toml`.
    Settings,
    /// The state as a whole.
    State,
    /// Owners and modes of the paths that all machines share.
    Permissions,
    /// Owners and modes of one machine's chroot.
    HostPermissions(HostName),
    /// One machine's account and chroot.
    Account(HostName),
    /// One machine's publication.
    Publication(HostName),
    /// The intake of one machine's reports.
    Inbox(HostName),
    /// The record of one machine's contacts.
    Contact(HostName),
}

/// All current problems of the daemon's threads.
#[derive(Debug)]
pub(super) struct Problems {
    file: PathBuf,
    known: Mutex<Known>,
    /// The counters of the same threads.
    pub(super) counters: Counters,
}

#[derive(Debug)]
struct Known {
    problems: BTreeMap<ProblemSource, Vec<Problem>>,
    /// The number of changes.
    revision: u64,
    /// The problems that the log hasn't yet.
    new: Vec<Problem>,
    /// Whether the file is out of date.
    changed: bool,
    /// Whether the last write failed, which is logged once.
    unwritable: bool,
}

impl Problems {
    pub(super) fn new(runtime: &Runtime) -> Self {
        let known = Known {
            problems: BTreeMap::new(),
            revision: 0,
            new: Vec::new(),
            // Also without a problem: a missing file means that no appliance runs.
            changed: true,
            unwritable: false,
        };
        Problems {
            file: runtime.problems(),
            known: Mutex::new(known),
            counters: Counters::default(),
        }
    }

    /// The number of changes since the start.
    pub(super) fn revision(&self) -> u64 {
        self.known().revision
    }

    /// The number of problems, without notes.
    pub(super) fn count(&self) -> usize {
        let known = self.known();
        let problems = known.problems.values().flatten();
        problems.filter(|problem| !problem.is_note).count()
    }

    /// Replaces the problems of one source. Neither the log nor the file shows them before [`Self::write`].
    pub(super) fn set(&self, source: ProblemSource, problems: Vec<Problem>) {
        let mut known = self.known();
        let before = known.problems.get(&source).cloned().unwrap_or_default();
        if before == problems {
            return;
        }
        known.changed = true;
        known.revision += 1;
        let new = problems.iter().filter(|problem| !before.contains(problem));
        let new: Vec<_> = new.cloned().collect();
        known.new.extend(new);
        if problems.is_empty() {
            known.problems.remove(&source);
        } else {
            known.problems.insert(source, problems);
        }
    }

    /// Clears all problems of a machine.
    pub(super) fn clear(&self, name: &HostName) {
        for source in [
            ProblemSource::HostPermissions,
            ProblemSource::Account,
            ProblemSource::Publication,
            ProblemSource::Inbox,
            ProblemSource::Contact,
        ] {
            self.set(source(name.clone()), Vec::new());
        }
    }

    /// Logs the new problems, and writes the file if it is out of date.
    pub(super) fn write(&self) {
        let mut known = self.known();
        let new = std::mem::take(&mut known.new).into_iter();
        let (notes, faults): (Vec<_>, Vec<_>) = new.partition(|problem| problem.is_note);
        lines(&faults).iter().for_each(|line| warn!("{line}"));
        lines(&notes).iter().for_each(|line| info!("{line}"));
        if !known.changed {
            return;
        }
        let all: Vec<_> = known.problems.values().flatten().collect();
        let written = atomic_file::write_json(&self.file, &all);
        if let Err(error) = &written
            && !known.unwritable
        {
            let file = self.file.display();
            error!(
                "problems can't be written to {file}, so that status doesn't show them: {error}"
            );
        }
        known.unwritable = written.is_err();
        known.changed = written.is_err();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No change panics halfway.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems() -> (tempfile::TempDir, Problems) {
        let folder = tempfile::tempdir().unwrap();
        let problems = Problems::new(&Runtime::new(folder.path()));
        (folder, problems)
    }

    fn written(problems: &Problems) -> Option<Vec<Problem>> {
        atomic_file::read_json(&problems.file).unwrap()
    }

    fn full(name: &str) -> Problem {
        Problem::new("/state", "is full", "make room").of(&name.parse().unwrap())
    }

    #[test]
    fn a_problem_that_its_source_does_not_set_again_is_over() {
        let (_folder, problems) = problems();
        let a = ProblemSource::Inbox("a".parse().unwrap());
        problems.set(a.clone(), vec![full("a")]);
        problems.set(ProblemSource::State, vec![full("b")]);
        assert_eq!(written(&problems), None, "nothing before the write");
        problems.write();
        assert_eq!(written(&problems), Some(vec![full("b"), full("a")]));
        problems.set(ProblemSource::State, Vec::new());
        problems.clear(&"a".parse().unwrap());
        problems.write();
        assert_eq!(written(&problems), Some(Vec::new()));
    }

    #[test]
    fn a_file_that_could_not_be_written_is_written_later() {
        let (folder, problems) = problems();
        std::fs::remove_dir(folder.path()).unwrap();
        problems.set(ProblemSource::State, vec![full("a")]);
        problems.write();
        std::fs::create_dir(folder.path()).unwrap();
        problems.write();
        assert_eq!(written(&problems), Some(vec![full("a")]));
    }

    #[test]
    fn the_log_has_a_problem_once_and_one_line_for_all_machines() {
        let (_folder, problems) = problems();
        let logged = || lines(&std::mem::take(&mut problems.known().new));
        problems.set(ProblemSource::State, vec![full("a")]);
        problems.set(ProblemSource::State, vec![full("a"), full("b")]);
        assert_eq!(logged(), ["/state: a, b: is full: make room"]);
        problems.set(ProblemSource::State, vec![full("b"), full("a")]);
        assert!(logged().is_empty());
        let many = (0..1000).map(|number| full(&format!("m{number}")));
        problems.set(ProblemSource::State, many.collect());
        assert_eq!(
            logged(),
            ["/state: m0, m1, m2, m3, m4 and 995 more: is full: make room"]
        );
    }
}
