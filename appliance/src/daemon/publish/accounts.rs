//! Who has which account: given and taken as the fleet says, and kept.

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
pub(in crate::daemon) struct AccountManager {
    state: State,
    accounts: Accounts,
    problems: Arc<Problems>,
}

impl AccountManager {
    /// Begins with what the state holds.
    ///
    /// # Errors
    /// When that can't be read, or is missing though there are machines: each would be enrolled anew, and what is kept of
    /// it would go.
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

    /// Who has which account.
    pub(in crate::daemon) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The accounts that there must be, with the keys that let each in.
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
        let mut accounts = self.accounts.clone();
        let is_gone = |name: &&HostName| !fleet.hosts.contains_key(*name);
        let gone: Vec<_> = self.accounts.names().filter(is_gone).cloned().collect();
        gone.iter().for_each(|name| accounts.remove(name, now));
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
            self.take_over(accounts, &arrivals).inspect_err(|error| {
                for name in arrivals.new.iter().chain(&arrivals.back) {
                    self.refuse_account(name, unwritable(&self.state, error));
                }
            })?;
        }
        for name in &gone {
            info!(host = %name, "removed");
            self.problems.clear(name);
        }
        Ok(gone)
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

    /// Makes these the accounts, each new one with an empty folder: what an earlier machine of its name left isn't
    /// its. The folder is emptied before the account lasts, so that a crash in between leaves nothing to it either. A
    /// machine that was renamed has the reports that it left by its former name.
    fn take_over(&mut self, accounts: Accounts, arrivals: &Arrivals) -> io::Result<()> {
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
            info!(host = %name, "came back: it goes on as the machine that it was");
        }
        Ok(())
    }

    /// Nothing is left of these removed machines, neither a session nor a file: their user ids may be given again.
    pub(super) fn release(&mut self, uids: &[u32]) -> io::Result<()> {
        let mut accounts = self.accounts.clone();
        uids.iter().for_each(|uid| accounts.release(*uid));
        if accounts != self.accounts {
            accounts.write(&self.state)?;
            self.accounts = accounts;
        }
        Ok(())
    }

    /// Gives every machine that has an account a chroot. False if one can't have it.
    pub(super) fn give_chroots(&self, fleet: &Fleet) -> bool {
        let mut all = true;
        for name in fleet.hosts.keys() {
            let Some(account) = self.accounts.get(name) else {
                // Why, is told.
                all = false;
                continue;
            };
            let given = Publications::of(&self.state.host(name)).enrol(account.uid);
            let problem = given.err().map(|error| {
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
    fn a_state_that_lost_its_accounts_enrols_nobody_anew() {
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
