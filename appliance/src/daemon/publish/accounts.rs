//! Who has which account: given and taken as the fleet says, and kept.

use std::fs;
use std::io;
use std::sync::Arc;

use bento_protocol::HostName;
use jiff::Timestamp;
use tracing::info;

use super::reconcile::{remove_unfinished, unwritable};
use super::removed;
use crate::daemon::problems::{Board, Source};
use crate::fleet::Fleet;
use crate::problem::Problem;
use crate::publication::Publications;
use crate::report;
use crate::sshd::Account;
use crate::store::accounts::Enrolments;
use crate::store::atomic_file;
use crate::store::paths::State;

/// The machines that had no account until now.
#[derive(Debug, Default)]
struct Arrivals {
    new: Vec<HostName>,
    /// Those that have the one that they had before.
    back: Vec<HostName>,
    /// Those of `new` that had one by another name, which comes first.
    renamed: Vec<(HostName, HostName)>,
}

/// Gives and takes accounts.
#[derive(Debug)]
pub(in crate::daemon) struct Registrar {
    state: State,
    enrolments: Enrolments,
    board: Arc<Board>,
}

impl Registrar {
    /// Begins with what the state holds.
    ///
    /// # Errors
    /// When that can't be read, or is missing though there are machines: each would be enrolled anew, and what is kept of
    /// it would go.
    pub(in crate::daemon) fn new(state: State, board: Arc<Board>) -> io::Result<Self> {
        let path = state.enrolments();
        if !path.try_exists()? && has_machines(&state)? {
            return Err(io::Error::other(format!(
                "{} is missing, though there are machines in {}: put it back from a backup, or remove that folder, and \
                 every machine is enrolled anew, without its reports",
                path.display(),
                state.hosts().display()
            )));
        }
        let named = |error| io::Error::other(format!("{}: {error}", path.display()));
        let enrolments = Enrolments::read(&state).map_err(named)?;
        Ok(Registrar {
            state,
            enrolments,
            board,
        })
    }

    /// Who has which account.
    pub(in crate::daemon) fn enrolments(&self) -> &Enrolments {
        &self.enrolments
    }

    /// The accounts that there must be, with the keys that let each in.
    pub(super) fn accounts(&self, fleet: &Fleet) -> Vec<Account> {
        let account = |(name, uid): (&HostName, u32)| {
            let host = fleet.hosts.get(name)?;
            Some(Account {
                name: name.clone(),
                uid,
                keys: host.keys.clone(),
            })
        };
        self.enrolments.accounts().filter_map(account).collect()
    }

    /// Gives every machine of the fleet an account, and takes the account of every other: gives these. One that comes
    /// back soon enough, with a key that it had, has the account that it had, unless it was `forgotten` meanwhile.
    ///
    /// # Errors
    /// When that can't be kept. Then nothing has changed.
    pub(in crate::daemon) fn enrol(
        &mut self,
        fleet: &Fleet,
        forgotten: impl Fn(&HostName) -> Option<Timestamp>,
        now: Timestamp,
    ) -> io::Result<Vec<HostName>> {
        let mut enrolments = self.enrolments.clone();
        let is_gone = |name: &&HostName| !fleet.hosts.contains_key(*name);
        let gone: Vec<_> = self.enrolments.names().filter(is_gone).cloned().collect();
        gone.iter().for_each(|name| enrolments.remove(name, now));
        enrolments.forget(now, forgotten);
        let mut arrivals = Arrivals::default();
        for (name, host) in &fleet.hosts {
            let is_known = enrolments.get(name).is_some();
            if !is_known && enrolments.bring_back(name, &host.keys) {
                arrivals.back.push(name.clone());
            } else if enrolments.enrol(name, now).is_none() {
                self.refuse_account(name, no_user_id());
                continue;
            } else if !is_known {
                arrivals.new.push(name.clone());
            }
            enrolments.set_keys(name, &host.keys);
        }
        if enrolments != self.enrolments {
            arrivals.renamed = self.renamed(fleet, &arrivals);
            for (former, name) in &arrivals.renamed {
                enrolments.carry_over(former, name);
            }
            self.take_over(enrolments, &arrivals).inspect_err(|error| {
                for name in arrivals.new.iter().chain(&arrivals.back) {
                    self.refuse_account(name, unwritable(&self.state, error));
                }
            })?;
        }
        for name in &gone {
            info!(host = %name, "removed");
            self.board.forget(name);
        }
        Ok(gone)
    }

    /// The new machines that had an account by a former name, which comes first.
    fn renamed(&self, fleet: &Fleet, arrivals: &Arrivals) -> Vec<(HostName, HostName)> {
        let hosts = fleet.hosts.iter();
        let former = hosts.filter_map(|(former, host)| Some((former, host.renamed_to.as_ref()?)));
        let had = |former: &HostName| {
            self.enrolments.get(former).is_some() || arrivals.back.contains(former)
        };
        former
            .filter(|(former, name)| had(former) && arrivals.new.contains(name))
            .map(|(former, name)| (former.clone(), name.clone()))
            .collect()
    }

    fn refuse_account(&self, name: &HostName, problem: Problem) {
        let source = Source::Enrolment(name.clone());
        self.board.tell(source, vec![problem.of(name)]);
    }

    /// Makes these the enrolments, each new one with an empty folder: what an earlier machine of its name left isn't
    /// its. The folder is emptied before the enrolment lasts, so that a crash in between leaves nothing to it either. A
    /// machine that was renamed has the reports that it left by its former name.
    fn take_over(&mut self, enrolments: Enrolments, arrivals: &Arrivals) -> io::Result<()> {
        for name in &arrivals.new {
            removed::forget(&self.state, name)?;
            let host = self.state.host(name);
            atomic_file::remove_tree(host.root())?;
            fs::create_dir(host.root())?;
        }
        for name in &arrivals.back {
            removed::bring_back(&self.state, name)?;
        }
        for (former, name) in &arrivals.renamed {
            report::copy(&self.state.host(former), &self.state.host(name))?;
            info!(host = %name, former = %former, "has its reports by its former name");
        }
        rustix::fs::syncfs(fs::File::open(self.state.root())?)?;
        enrolments.write(&self.state)?;
        self.enrolments = enrolments;
        for name in &arrivals.new {
            info!(host = %name, "enrolled");
        }
        for name in &arrivals.back {
            info!(host = %name, "came back: it goes on as the machine that it was");
        }
        Ok(())
    }

    /// Nothing is left of these removed machines, neither a session nor a file: their user ids may be given again.
    pub(super) fn release(&mut self, uids: &[u32]) -> io::Result<()> {
        let mut enrolments = self.enrolments.clone();
        uids.iter().for_each(|uid| enrolments.release(*uid));
        if enrolments != self.enrolments {
            enrolments.write(&self.state)?;
            self.enrolments = enrolments;
        }
        Ok(())
    }

    /// Gives every machine that has an account a chroot. False if one can't have it.
    pub(super) fn give_chroots(&self, fleet: &Fleet) -> bool {
        let mut all = true;
        for name in fleet.hosts.keys() {
            let Some(enrolment) = self.enrolments.get(name) else {
                // Why, is told.
                all = false;
                continue;
            };
            let given = Publications::of(&self.state.host(name)).enrol(enrolment.uid);
            let problem = given.err().map(|error| {
                remove_unfinished(&self.state.host(name), name);
                unwritable(&self.state, &error).of(name)
            });
            all &= problem.is_none();
            self.board.tell(
                Source::Enrolment(name.clone()),
                problem.into_iter().collect(),
            );
        }
        all
    }
}

/// Whether anything was ever published for anybody. A start that was cut off may have left an empty folder.
fn has_machines(state: &State) -> io::Result<bool> {
    let hosts = match fs::read_dir(state.hosts()) {
        Ok(hosts) => hosts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for host in hosts {
        if host?.path().join("current").is_symlink() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn no_user_id() -> Problem {
    let advice = "remove machines that are no longer there";
    Problem::new("fleet.toml", "there is no user id left", advice)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fixture::Kept;

    // Issue 10, line 34.
    #[test]
    fn a_state_that_lost_its_enrolments_enrols_nobody_anew() {
        let kept = Kept::new("[hosts.a]\n");
        let board = || Arc::new(Board::new(&kept.runtime));
        let begin = || Registrar::new(kept.state.clone(), board());
        fs::create_dir_all(kept.host("a").root()).unwrap();
        begin().unwrap();
        symlink("publications/1/chroot", kept.host("a").current()).unwrap();
        let refused = begin().unwrap_err().to_string();
        assert!(refused.contains("enrolments.json is missing"), "{refused}");
        fs::write(kept.state.enrolments(), "{").unwrap();
        let refused = begin().unwrap_err().to_string();
        assert!(refused.contains("enrolments.json: EOF"), "{refused}");
    }
}
