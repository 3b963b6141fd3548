//! Removal of publications, folders and user ids that aren't needed any more.
//!
//! Sessions stay in the publication in which they began, and under the user id that they logged in with. So both are kept
//! until all sessions have ended that may use them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bento_protocol::HostName;

use super::PassResult;
use super::accounts::AccountManager;
use super::removed;
use crate::backup;
use crate::daemon::intake::IntakeLoop;
use crate::problem::Problem;
use crate::publication::Publications;
use crate::report::Summary;
use crate::sshd::Sessions;
use crate::store::paths::State;

const NOT_REMOVED: &str = "old files can't be removed";

/// The publications and user ids that wait for the end of sessions.
pub(super) struct Cleanup {
    state: State,
    sessions: Sessions,
    intake_loop: Arc<IntakeLoop>,
    /// Superseded publications, with the first session that can't be in them.
    superseded: BTreeMap<(HostName, u64), u64>,
    /// User ids of removed machines, with the first session that can't be theirs.
    removed: BTreeMap<u32, u64>,
}

impl Cleanup {
    pub(super) fn new(state: State, sessions: Sessions, intake_loop: Arc<IntakeLoop>) -> Self {
        Cleanup {
            state,
            sessions,
            intake_loop,
            superseded: BTreeMap::new(),
            removed: BTreeMap::new(),
        }
    }

    /// Removes everything that is no longer needed. A failed removal is a problem, and stops no other.
    pub(super) fn run(&mut self, account_manager: &mut AccountManager, result: &mut PassResult) {
        let accounts = account_manager.accounts();
        let kept = removed::clear(&self.state, |name| accounts.is_kept(name));
        let leftovers = backup::clear_leftovers(&self.state);
        let folders = folders(&self.state.hosts());
        for folder in folders.iter().flatten() {
            let cleaned = self.clean_folder(account_manager, folder);
            result.problems.extend(cleaned.err());
        }
        let released = self.release_uids(account_manager);
        result.unstable |= !matches!(released, Ok(true));
        for (what, done) in [
            (NOT_REMOVED, kept),
            (NOT_REMOVED, folders.map(drop)),
            (
                "the leftovers of an interrupted backup can't be removed",
                leftovers,
            ),
            (
                "the user ids of removed machines can't be released",
                released.map(drop),
            ),
        ] {
            let problem = |error| Problem::of_state(self.state.root(), what, &error);
            result.problems.extend(done.map_err(problem).err());
        }
    }

    /// Cleans the folder of a machine, which is removed with its account.
    fn clean_folder(&mut self, accounts: &AccountManager, folder: &Path) -> Result<(), Problem> {
        let name = folder.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.parse().ok()) else {
            return Err(Problem::new(
                folder.display().to_string(),
                "isn't the appliance's",
                "move it away; it is left alone",
            ));
        };
        let accounts = accounts.accounts();
        let cleaned = match accounts.get(&name) {
            Some(account) => self.remove_superseded(&name, account.uid),
            None => self.remove_host(&name, folder, accounts.is_kept(&name)),
        };
        cleaned.map_err(|error| Problem::of_state(self.state.root(), NOT_REMOVED, &error).of(&name))
    }

    fn remove_superseded(&mut self, name: &HostName, uid: u32) -> io::Result<()> {
        let state = self.state.host(name);
        self.intake_loop.correct_contact(name)?;
        let publications = Publications::of(&state);
        let current = publications.current()?;
        // A number is used again if its publication was never switched to.
        if let Some(current) = current {
            self.superseded.remove(&(name.clone(), current));
        }
        let mut numbers = publications.numbers()?;
        numbers.retain(|number| Some(*number) != current);
        for number in numbers {
            let key = (name.clone(), number);
            let next = self.sessions.next_session();
            let first_outside = *self.superseded.entry(key.clone()).or_insert(next);
            if self.have_ended(uid, first_outside) {
                // A report that couldn't be taken in exists only there.
                self.intake_loop.empty(name, number)?;
                publications.remove_superseded(number)?;
                self.superseded.remove(&key);
            }
        }
        publications.prune(|| Ok(Summary::read(&state)?.installed()))
    }

    /// Removes the publications of a removed machine at once: a session of it that is just being ended finds nothing
    /// there any more. Its reports are kept for as long as it can come back.
    fn remove_host(&mut self, name: &HostName, folder: &Path, is_kept: bool) -> io::Result<()> {
        if is_kept {
            self.intake_loop.take_in_once(name);
            self.intake_loop
                .while_paused(|| removed::set_aside(&self.state, name))?;
        } else {
            self.intake_loop
                .while_paused(|| fs::remove_dir_all(folder))?;
        }
        self.superseded.retain(|(of, _), _| of != name);
        Ok(())
    }

    /// Releases the user ids of removed machines whose sessions have ended. Their folders are gone by now. False if some
    /// remain.
    fn release_uids(&mut self, account_manager: &mut AccountManager) -> io::Result<bool> {
        let uids: Vec<_> = account_manager.accounts().leaving().collect();
        self.removed.retain(|uid, _| uids.contains(uid));
        let next = self.sessions.next_session();
        for uid in &uids {
            self.removed.entry(*uid).or_insert(next);
        }
        let removed = self.removed.iter();
        let ended =
            removed.filter(|(uid, first_of_others)| self.have_ended(**uid, **first_of_others));
        let ended: Vec<_> = ended.map(|(uid, _)| *uid).collect();
        account_manager.release(&ended)?;
        Ok(ended.len() == uids.len())
    }

    /// Whether all sessions of an account have ended that began before this one.
    fn have_ended(&self, uid: u32, session: u64) -> bool {
        let oldest = self.sessions.oldest_session_of(uid);
        oldest.is_none_or(|oldest| oldest >= session)
    }
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(of)?.map(|entry| Ok(entry?.path())).collect()
}
