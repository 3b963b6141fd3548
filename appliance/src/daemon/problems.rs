//! What is wrong at the moment: in a file for `bento status`, and in the log once, when it is new.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bento_protocol::HostName;
use tracing::{error, info, warn};

use crate::metrics::counters::Activity;
use crate::problem::{Problem, lines};
use crate::store::atomic_file;
use crate::store::paths::Runtime;

/// Who tells of problems. Each tells all of its own at once, and so takes back those that are over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Whoever reads `fleet.toml`.
    Settings,
    /// Whoever needs the state as a whole.
    State,
    /// Whoever looks at owners and modes in every machine's way.
    Sink,
    /// The same, of this machine alone.
    Access(HostName),
    /// Whoever gives this machine an account and a chroot.
    AccountRecord(HostName),
    /// Whoever publishes for this machine.
    Publication(HostName),
    /// Whoever takes in its reports.
    Inbox(HostName),
    /// Whoever notes its contacts.
    Contact(HostName),
}

/// Where problems are told.
#[derive(Debug)]
pub(super) struct Problems {
    file: PathBuf,
    told: Mutex<Told>,
    /// What is counted of the same threads' work.
    pub(super) activity: Activity,
}

#[derive(Debug)]
struct Told {
    problems: BTreeMap<Source, Vec<Problem>>,
    /// How often they changed.
    revision: u64,
    /// Those that the log hasn't yet.
    new: Vec<Problem>,
    /// Whether the file says something else.
    changed: bool,
    /// Whether it couldn't be written the last time, which the log has once.
    unwritable: bool,
}

impl Problems {
    pub(super) fn new(runtime: &Runtime) -> Self {
        let told = Told {
            problems: BTreeMap::new(),
            revision: 0,
            new: Vec::new(),
            // That nothing is wrong must be said, too: without the file nobody knows.
            changed: true,
            unwritable: false,
        };
        Problems {
            file: runtime.problems(),
            told: Mutex::new(told),
            activity: Activity::default(),
        }
    }

    /// How often what is wrong has changed.
    pub(super) fn revision(&self) -> u64 {
        self.told().revision
    }

    /// How many things are wrong.
    pub(super) fn count(&self) -> usize {
        let told = self.told();
        let problems = told.problems.values().flatten();
        problems.filter(|problem| !problem.is_note).count()
    }

    /// Takes note of all that is wrong by one source; nothing is to be seen of it before [`Self::post`].
    pub(super) fn tell(&self, source: Source, problems: Vec<Problem>) {
        let mut told = self.told();
        let known = told.problems.get(&source).cloned().unwrap_or_default();
        if known == problems {
            return;
        }
        told.changed = true;
        told.revision += 1;
        let new = problems.iter().filter(|problem| !known.contains(problem));
        let new: Vec<_> = new.cloned().collect();
        told.new.extend(new);
        if problems.is_empty() {
            told.problems.remove(&source);
        } else {
            told.problems.insert(source, problems);
        }
    }

    /// Forgets a machine.
    pub(super) fn forget(&self, name: &HostName) {
        for source in [
            Source::Access,
            Source::AccountRecord,
            Source::Publication,
            Source::Inbox,
            Source::Contact,
        ] {
            self.tell(source(name.clone()), Vec::new());
        }
    }

    /// Logs what is new, and writes the file if it says something else.
    pub(super) fn post(&self) {
        let mut told = self.told();
        let new = std::mem::take(&mut told.new).into_iter();
        let (notes, faults): (Vec<_>, Vec<_>) = new.partition(|problem| problem.is_note);
        lines(&faults).iter().for_each(|line| warn!("{line}"));
        lines(&notes).iter().for_each(|line| info!("{line}"));
        if !told.changed {
            return;
        }
        let all: Vec<_> = told.problems.values().flatten().collect();
        let written = atomic_file::write_json(&self.file, &all);
        if let Err(error) = &written
            && !told.unwritable
        {
            let file = self.file.display();
            error!(
                "what is wrong can't be written to {file}, so that status doesn't show it: {error}"
            );
        }
        told.unwritable = written.is_err();
        told.changed = written.is_err();
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Nothing panics while it is half changed.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> (tempfile::TempDir, Problems) {
        let folder = tempfile::tempdir().unwrap();
        let board = Problems::new(&Runtime::new(folder.path()));
        (folder, board)
    }

    fn written(board: &Problems) -> Option<Vec<Problem>> {
        atomic_file::read_json(&board.file).unwrap()
    }

    fn full(name: &str) -> Problem {
        Problem::new("/state", "is full", "make room").of(&name.parse().unwrap())
    }

    #[test]
    fn what_a_source_does_not_tell_any_more_is_over() {
        let (_folder, board) = board();
        let a = Source::Inbox("a".parse().unwrap());
        board.tell(a.clone(), vec![full("a")]);
        board.tell(Source::State, vec![full("b")]);
        assert_eq!(written(&board), None, "nothing before it is posted");
        board.post();
        assert_eq!(written(&board), Some(vec![full("b"), full("a")]));
        board.tell(Source::State, Vec::new());
        board.forget(&"a".parse().unwrap());
        board.post();
        assert_eq!(written(&board), Some(Vec::new()));
    }

    #[test]
    fn a_file_that_could_not_be_written_is_written_later() {
        let (folder, board) = board();
        std::fs::remove_dir(folder.path()).unwrap();
        board.tell(Source::State, vec![full("a")]);
        board.post();
        std::fs::create_dir(folder.path()).unwrap();
        board.post();
        assert_eq!(written(&board), Some(vec![full("a")]));
    }

    #[test]
    fn the_log_has_a_problem_once_and_one_line_for_all_machines() {
        let (_folder, board) = board();
        let logged = || lines(&std::mem::take(&mut board.told().new));
        board.tell(Source::State, vec![full("a")]);
        board.tell(Source::State, vec![full("a"), full("b")]);
        assert_eq!(logged(), ["/state: a, b: is full: make room"]);
        board.tell(Source::State, vec![full("b"), full("a")]);
        assert!(logged().is_empty());
        let many = (0..1000).map(|number| full(&format!("m{number}")));
        board.tell(Source::State, many.collect());
        assert_eq!(
            logged(),
            ["/state: m0, m1, m2, m3, m4 and 995 more: is full: make room"]
        );
    }
}
