//! The account manager: adds and removes accounts with the machines of the fleet.

use std::fs;
use std::io;
use std::sync::Arc;

use bento_protocol::HostName;
use jiff::Timestamp;
use tracing::info;

use super::reconcile::{remove_unfinished, unwritable};
use super::removed;
use crate::daemon::problems::{ProblemSource, Problems};
use crate::fleet::Fleet;
use crate::problem::Problem;
use crate::publication::Publications;
use crate::report;
use crate::sshd::Login;
use crate::store::accounts::Accounts;
use crate::store::atomic_file;
use crate::store::paths::State;

/// The machines that get an account.
#[derive(Debug, Default)]
struct Arrivals {
    new: Vec<HostName>,
    /// They get the account that they had before.
    back: Vec<HostName>,
    /// Those of `new` that have an account by a former name, which comes first.
    renamed: Vec<(HostName, HostName)>,
}

/// Adds and removes accounts.
#[derive(Debug)]
pub(in crate::daemon) struct AccountManager {
    state: State,
    accounts: Accounts,
    problems: Arc<Problems>,
}

impl AccountManager {
    /// Begins with what the state holds.
    ///
    /// # Errors
    /// When the accounts can't be read, or are missing though there are machines: each would be enrolled anew, and lose its
    /// reports.
    pub(in crate::daemon) fn new(state: State, problems: Arc<Problems>) -> io::Result<Self> {
        let path = state.accounts();
        if !path.try_exists()? && has_machines(&state)? {
            return Err(io::Error::other(format!(
                "{} is missing, though there are machines in {}: put it back from a backup, or remove that folder, and \
                 every machine is enrolled anew, without its reports",
                path.display(),
                state.hosts().display()
            )));
        }
        let named = |error| io::Error::other(format!("{}: {error}", path.display()));
        let accounts = Accounts::read(&state).map_err(named)?;
        Ok(AccountManager {
            state,
            accounts,
            problems,
        })
    }

    /// The accounts as the state holds them.
    pub(in crate::daemon) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The accounts of the fleet's machines, each with its keys.
    pub(super) fn logins(&self, fleet: &Fleet) -> Vec<Login> {
        let account = |(name, uid): (&HostName, u32)| {
            let host = fleet.hosts.get(name)?;
            Some(Login {
                name: name.clone(),
                uid,
                keys: host.keys.clone(),
            })
        };
        self.accounts.all().filter_map(account).collect()
    }

    /// Adds an account for every new machine of the fleet, and removes those of all others, which it returns. A machine that
    /// comes back soon enough, with a key that it had, gets its old account, unless it was `forgotten` meanwhile.
    ///
    /// # Errors
    /// When the accounts can't be written. Then nothing has changed.
    pub(in crate::daemon) fn enrol(
        &mut self,
        fleet: &Fleet,
        forgotten: impl Fn(&HostName) -> Option<Timestamp>,
        now: Timestamp,
    ) -> io::Result<Vec<HostName>> {
        let mut accounts = self.accounts.clone();
        let is_removed = |name: &&HostName| !fleet.hosts.contains_key(*name);
        let removed: Vec<_> = self.accounts.names().filter(is_removed).cloned().collect();
        removed.iter().for_each(|name| accounts.remove(name, now));
        accounts.forget(now, forgotten);
        let mut arrivals = Arrivals::default();
        for (name, host) in &fleet.hosts {
            let is_known = accounts.get(name).is_some();
            if !is_known && accounts.bring_back(name, &host.keys) {
                arrivals.back.push(name.clone());
            } else if accounts.enrol(name, now).is_none() {
                self.refuse_account(name, no_user_id());
                continue;
            } else if !is_known {
                arrivals.new.push(name.clone());
            }
            accounts.set_keys(name, &host.keys);
        }
        if accounts != self.accounts {
            arrivals.renamed = self.renamed(fleet, &arrivals);
            for (former, name) in &arrivals.renamed {
                accounts.carry_over(former, name);
            }
            self.apply(accounts, &arrivals).inspect_err(|error| {
                for name in arrivals.new.iter().chain(&arrivals.back) {
                    self.refuse_account(name, unwritable(&self.state, error));
                }
            })?;
        }
        for name in &removed {
            info!(host = %name, "removed");
            self.problems.clear(name);
        }
        Ok(removed)
    }

    /// The new machines that had an account by a former name, which comes first.
    fn renamed(&self, fleet: &Fleet, arrivals: &Arrivals) -> Vec<(HostName, HostName)> {
        let hosts = fleet.hosts.iter();
        let former = hosts.filter_map(|(former, host)| Some((former, host.renamed_to.as_ref()?)));
        let had = |former: &HostName| {
            self.accounts.get(former).is_some() || arrivals.back.contains(former)
        };
        former
            .filter(|(former, name)| had(former) && arrivals.new.contains(name))
            .map(|(former, name)| (former.clone(), name.clone()))
            .collect()
    }

    fn refuse_account(&self, name: &HostName, problem: Problem) {
        let source = ProblemSource::Account(name.clone());
        self.problems.set(source, vec![problem.of(name)]);
    }

    /// Makes these the accounts, each new one with an empty folder: the reports of an earlier machine of its name aren't
    /// its own. The folder is emptied before the account is durable, so that a crash in between leaves nothing to it
    /// either. A renamed machine keeps the reports that it left by its former name.
    fn apply(&mut self, accounts: Accounts, arrivals: &Arrivals) -> io::Result<()> {
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
        accounts.write(&self.state)?;
        self.accounts = accounts;
        for name in &arrivals.new {
            info!(host = %name, "enrolled");
        }
        for name in &arrivals.back {
            info!(host = %name, "came back: it has its old account");
        }
        Ok(())
    }

    /// Releases the user ids of removed machines of which nothing is left, neither a session nor a file.
    pub(super) fn release(&mut self, uids: &[u32]) -> io::Result<()> {
        let mut accounts = self.accounts.clone();
        uids.iter().for_each(|uid| accounts.release(*uid));
        if accounts != self.accounts {
            accounts.write(&self.state)?;
            self.accounts = accounts;
        }
        Ok(())
    }

    /// Creates an empty chroot for every machine without one. False if that fails for a machine.
    pub(super) fn create_chroots(&self, fleet: &Fleet) -> bool {
        let mut all = true;
        for name in fleet.hosts.keys() {
            let Some(account) = self.accounts.get(name) else {
                // That is a problem already.
                all = false;
                continue;
            };
            let created = Publications::of(&self.state.host(name)).create_empty(account.uid);
            let problem = created.err().map(|error| {
                remove_unfinished(&self.state.host(name), name);
                unwritable(&self.state, &error).of(name)
            });
            all &= problem.is_none();
            self.problems.set(
                ProblemSource::Account(name.clone()),
                problem.into_iter().collect(),
            );
        }
        all
    }
}

/// Whether anything was ever published for any machine. An interrupted start may have left an empty folder.
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
    fn a_state_without_its_accounts_enrols_no_machine_again() {
        let kept = Kept::new("[hosts.a]\n");
        let problems = || Arc::new(Problems::new(&kept.runtime));
        let begin = || AccountManager::new(kept.state.clone(), problems());
        fs::create_dir_all(kept.host("a").root()).unwrap();
        begin().unwrap();
        symlink("publications/1/chroot", kept.host("a").current()).unwrap();
        let refused = begin().unwrap_err().to_string();
        assert!(refused.contains("accounts.json is missing"), "{refused}");
        fs::write(kept.state.accounts(), "{").unwrap();
        let refused = begin().unwrap_err().to_string();
        assert!(refused.contains("accounts.json: EOF"), "{refused}");
    }
}
