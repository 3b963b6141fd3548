//! The thread that publishes: it looks at the fleet folder when something moves there, and now and then anyway.

pub(super) mod accounts;
mod debounce;
pub(super) mod fleet_in_force;
mod host_plan;
pub(super) mod reconcile;
mod removed;
pub(super) mod watcher;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bento_protocol::HostName;
use jiff::Timestamp;

use tracing::warn;

use super::intake::IntakeLoop;
use super::problems::{ProblemSource, Problems};
use crate::backup;
use crate::problem::Problem;
use crate::publication::Publications;
use crate::report::Summary;
use crate::sshd::{Login, Sessions, passwd};
use crate::store::accounts::Accounts;
use crate::store::change_lock;
use crate::store::paths::{Runtime, State};
use crate::store::permissions;
use crate::store::permissions::{Depth, Rule};
use reconcile::{Pass, Reconciler};
use watcher::Watch;

/// How often the fleet folder is looked at when no event came: events are missed on some filesystems.
const RESCAN: Duration = Duration::from_secs(30);
/// After how long what failed is tried again at first.
const RETRY: Duration = Duration::from_secs(2);
/// The least time between two looks, so that a copy in progress isn't looked at for each of its files.
const PAUSE: Duration = Duration::from_millis(300);
/// How often owners and modes are looked at: whoever changes them from outside of the container says nothing.
const ACCESS_CHECK: Duration = Duration::from_secs(30);
/// How long the first publication may take to settle before the appliance calls itself ready without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a look at everything came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There is nothing to do before something changes.
    Done,
    /// Something hasn't settled.
    Unsettled,
    /// Something couldn't be done, such as on a full disk.
    Failed,
}

/// Publishes, and clears away what nobody stands in any more.
pub(super) struct PublishLoop {
    pub(super) publisher: Reconciler,
    pub(super) state: State,
    pub(super) runtime: Runtime,
    pub(super) sessions: Sessions,
    pub(super) intake_loop: Arc<IntakeLoop>,
    pub(super) problems: Arc<Problems>,
    /// Whose session is whose, for the supervisor.
    pub(super) directory: Arc<Mutex<Accounts>>,
    logins: Option<Vec<Login>>,
    /// When owners and modes were looked at last.
    access_checked: Option<Instant>,
    /// Publications that aren't the published ones any more, with the first session that can't stand in them.
    superseded: BTreeMap<(HostName, u64), u64>,
    /// User ids of machines that were removed, with the first session that can't be theirs.
    leaving: BTreeMap<u32, u64>,
}

impl PublishLoop {
    pub(super) fn new(
        publisher: Reconciler,
        state: State,
        runtime: Runtime,
        sessions: Sessions,
        intake_loop: Arc<IntakeLoop>,
        problems: Arc<Problems>,
        directory: Arc<Mutex<Accounts>>,
    ) -> Self {
        let (superseded, leaving) = Default::default();
        PublishLoop {
            publisher,
            state,
            runtime,
            sessions,
            intake_loop,
            problems,
            directory,
            logins: None,
            access_checked: None,
            superseded,
            leaving,
        }
    }

    /// Works until nobody can send hints any more. Calls `ready` once, when the first publication is done.
    pub(super) fn work(&mut self, mut watch: Watch, hints: &Receiver<()>, ready: impl FnOnce()) {
        let started = Instant::now();
        let mut ready = Some(ready);
        let mut retry = RETRY;
        loop {
            watch.renew();
            let look = self.look();
            let may_be_ready = look != Look::Unsettled || started.elapsed() > PATIENCE;
            if may_be_ready
                && self.publisher.fleet().is_some()
                && let Some(ready) = ready.take()
            {
                ready();
            }
            let wait = match look {
                Look::Done => RESCAN,
                Look::Unsettled => self.publisher.debounce(),
                Look::Failed => retry,
            };
            // Each try may read and write a whole fleet.
            retry = match look {
                Look::Failed => (retry * 2).min(RESCAN),
                _ => RETRY,
            };
            std::thread::sleep(PAUSE);
            match hints.recv_timeout(wait) {
                Ok(()) => while hints.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One look at everything. What is wrong is told, and stops nothing else.
    fn look(&mut self) -> Look {
        let _changing = change_lock::change(&self.runtime);
        let (now, instant) = (Timestamp::now(), Instant::now());
        let mut pass = self.publisher.begin(now, instant);
        // Before anybody is let in: what is open too far mustn't be seen.
        self.clear_the_way(instant);
        // A publication can take a while, and who is removed is to be out before it.
        let refused = self.admit(self.remaining(&pass.logins)).err();
        self.publisher.complete(&mut pass, now, instant);
        let Pass {
            unsettled,
            logins,
            mut failures,
            mut failed,
            ..
        } = pass;
        let refused = self.admit(logins).err().or(refused);
        failures.extend(refused.map(|error| self.runtime_problem(&error)));
        // Also when nothing could be published: what nobody needs any more may take just the room that is missing.
        failures.extend(self.clear_away());
        if let Err(error) = backup::clear_leftovers(&self.state) {
            let what = "what a backup that was cut off left can't be removed";
            failures.push(Problem::of_state(self.state.root(), what, &error));
        }
        let is_leaving = self.release().unwrap_or_else(|error| {
            let what = "the user ids of removed machines can't be given back";
            failures.push(Problem::of_state(self.state.root(), what, &error));
            true
        });
        failed |= !failures.is_empty();
        self.problems.set(ProblemSource::State, failures);
        self.problems.write();
        match (unsettled || is_leaving, failed) {
            (true, _) => Look::Unsettled,
            (false, true) => Look::Failed,
            (false, false) => Look::Done,
        }
    }

    /// Sets owners and modes right, and tells where that can't be done: everywhere at the start, at the top of each chroot
    /// now and then.
    fn clear_the_way(&mut self, now: Instant) {
        let (depth, last) = match self.access_checked {
            None => (Depth::Everything, None),
            Some(last) => (Depth::Top, Some(last)),
        };
        if last.is_some_and(|last| now.duration_since(last) < ACCESS_CHECK) {
            return;
        }
        self.access_checked = Some(now);
        let shared = permissions::shared(&self.state, &self.runtime, Rule::mend);
        let mut mended = shared.mended;
        self.problems
            .set(ProblemSource::Permissions, shared.problems);
        for (name, uid) in self.publisher.registrar.accounts().all() {
            let of_host =
                permissions::of_host(&self.state, &self.runtime, name, uid, depth, Rule::mend);
            mended += of_host.mended;
            self.problems.set(
                ProblemSource::HostPermissions(name.clone()),
                of_host.problems,
            );
        }
        if mended > 0 {
            warn!(
                paths = mended,
                "owners or modes were wrong, and were set right"
            );
        }
    }

    fn runtime_problem(&self, error: &anyhow::Error) -> Problem {
        Problem::new(
            self.runtime.root().display().to_string(),
            format!("who may log in can't be changed: {error:#}"),
            "look at the filesystem that is mounted there; it is tried again by itself",
        )
    }

    /// Of these accounts and their keys those that are let in already; all of them, if nobody was yet, because most have
    /// a generation since before the appliance started.
    fn remaining(&self, logins: &[Login]) -> Vec<Login> {
        let Some(admitted) = &self.logins else {
            return logins.to_vec();
        };
        let remaining = |account: &Login| {
            let old = admitted.iter().find(|old| old.uid == account.uid)?;
            let mut account = account.clone();
            account.keys.retain(|key| old.keys.contains(key));
            Some(account)
        };
        logins.iter().filter_map(remaining).collect()
    }

    /// Lets these accounts in, and nobody else: whoever lost their account or a key is thrown out.
    fn admit(&mut self, logins: Vec<Login>) -> anyhow::Result<()> {
        if self.logins.as_ref() == Some(&logins) {
            return Ok(());
        }
        passwd::write(&self.runtime, &logins)?;
        if let Ok(mut directory) = self.directory.lock() {
            *directory = self.publisher.registrar.accounts().clone();
        }
        self.sessions
            .allow(logins.iter().map(|account| account.uid).collect());
        for old in self.logins.replace(logins).into_iter().flatten() {
            let new = self
                .logins
                .iter()
                .flatten()
                .find(|account| account.uid == old.uid);
            // The sessions of one that is gone have ended with its account.
            if new.is_some_and(|new| !old.keys.iter().all(|key| new.keys.contains(key))) {
                self.sessions.end_account(old.uid);
            }
        }
        Ok(())
    }

    /// Removes publications and machines that are gone, once the sessions that may stand there have ended. Gives what
    /// was in the way.
    fn clear_away(&mut self) -> Vec<Problem> {
        let root = self.state.root().to_owned();
        let what = "what isn't needed any more can't be removed";
        let folders = match folders(&self.state.hosts()) {
            Ok(folders) => folders,
            Err(error) => return vec![Problem::of_state(&root, what, &error)],
        };
        let accounts = self.publisher.registrar.accounts();
        let cleared = removed::clear(&self.state, |name| accounts.is_kept(name));
        let problem = cleared.map_err(|error| Problem::of_state(&root, what, &error));
        let mut problems = Vec::from_iter(problem.err());
        for path in folders {
            let name = path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            let Some(name) = name else {
                problems.push(Problem::new(
                    path.display().to_string(),
                    "isn't the appliance's",
                    "move it away; it is left alone",
                ));
                continue;
            };
            let account = self.publisher.registrar.accounts().get(&name);
            let cleared = match account.map(|account| account.uid) {
                Some(uid) => self.clear_host(&name, uid),
                None => self.remove_host(&name, &path),
            };
            let problem = cleared.map_err(|error| Problem::of_state(&root, what, &error).of(&name));
            problems.extend(problem.err());
        }
        problems
    }

    fn clear_host(&mut self, name: &HostName, uid: u32) -> io::Result<()> {
        let state = self.state.host(name);
        self.intake_loop.correct_contact(name)?;
        let publications = Publications::of(&state);
        let current = publications.current()?;
        // A number comes again when what it named was never switched to.
        if let Some(current) = current {
            self.superseded.remove(&(name.clone(), current));
        }
        for number in publications
            .numbers()?
            .into_iter()
            .filter(|number| Some(*number) != current)
        {
            let key = (name.clone(), number);
            let first_elsewhere = *self
                .superseded
                .entry(key.clone())
                .or_insert(self.sessions.next_session());
            if self
                .sessions
                .oldest_session_of(uid)
                .is_none_or(|oldest| oldest >= first_elsewhere)
            {
                // What couldn't be taken in is still there, and nowhere else.
                self.intake_loop.empty(name, number)?;
                publications.retire(number)?;
                self.superseded.remove(&key);
            }
        }
        publications.prune(|| Ok(Summary::read(&state)?.installed()))
    }

    /// What was published for a machine that was removed goes at once: a session of it that is just being ended finds
    /// nothing there any more. What it has said by then is kept for as long as it can come back.
    fn remove_host(&mut self, name: &HostName, path: &Path) -> io::Result<()> {
        if self.publisher.registrar.accounts().is_kept(name) {
            self.intake_loop.hear_out(name);
            self.intake_loop
                .while_idle(|| removed::set_aside(&self.state, name))?;
        } else {
            self.intake_loop.while_idle(|| fs::remove_dir_all(path))?;
        }
        self.superseded.retain(|(of, _), _| of != name);
        Ok(())
    }

    /// Gives back the user ids of removed machines whose sessions have ended. Their folders are gone by now. True if
    /// there are others, which must be looked at again soon.
    fn release(&mut self) -> io::Result<bool> {
        let leaving: Vec<_> = self.publisher.registrar.accounts().leaving().collect();
        self.leaving.retain(|uid, _| leaving.contains(uid));
        let is_gone = |uid: &u32| {
            let next = self.sessions.next_session();
            let first_of_others = *self.leaving.entry(*uid).or_insert(next);
            let oldest = self.sessions.oldest_session_of(*uid);
            oldest.is_none_or(|oldest| oldest >= first_of_others)
        };
        let (gone, still): (Vec<u32>, Vec<u32>) = leaving.into_iter().partition(is_gone);
        self.publisher.registrar.release(&gone)?;
        Ok(!still.is_empty())
    }
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(of)?.map(|entry| Ok(entry?.path())).collect()
}
