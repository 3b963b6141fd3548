//! From the fleet folder to the chroots: one cycle looks at everything and publishes what has changed and settled.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use bento_protocol::{GenerationId, HostName};
use jiff::Timestamp;
use tracing::{error, info, warn};

use super::settings::Settings;
use super::settle::{Delay, TreeSettling};
use crate::durable;
use crate::enrolment::Enrolments;
use crate::fleet::{Fleet, Host, When};
use crate::generation::{self, DigestCache, ReadError};
use crate::problem::Problem;
use crate::publication::{Prepared, Publications};
use crate::session::Account;
use crate::state::State;
use crate::tree::{FleetFolder, HostTree};

/// Publishes a fleet folder into a state.
#[derive(Debug)]
pub(super) struct Publisher {
    config: PathBuf,
    state: State,
    settings: Settings,
    enrolments: Enrolments,
    trees: BTreeMap<HostName, TreeSettling>,
    /// git's lock of its index.
    git: Delay,
    digests: DigestCache,
    problems: BTreeMap<Option<HostName>, Vec<Problem>>,
}

/// What a cycle did.
#[derive(Debug)]
pub(super) struct Cycle {
    /// Something hasn't settled: the next cycle should follow after the settle time.
    pub(super) unsettled: bool,
    /// The accounts that there must be now.
    pub(super) accounts: Vec<Account>,
}

/// What became of one machine in a cycle.
enum Verdict {
    /// It has what it should have.
    Current,
    /// Its tree is being changed; with what to tell if that takes too long.
    Unsettled(Option<Problem>),
    /// It waits for the switch.
    Prepared(Box<Prepared>, GenerationId),
    /// It keeps what it has.
    Faulty(Vec<Problem>),
}

impl Publisher {
    /// Begins with what the state holds, and removes what an interrupted publication left behind.
    pub(super) fn new(config: PathBuf, state: State) -> io::Result<Self> {
        fs::create_dir_all(state.hosts())?;
        durable::remove_asides(state.root())?;
        let settings = Settings::new(&state)?;
        let enrolments = Enrolments::read(&state)?;
        for name in enrolments.names() {
            Publications::of(&state.host(name)).remove_debris()?;
        }
        Ok(Publisher {
            config,
            state,
            settings,
            enrolments,
            trees: BTreeMap::new(),
            git: Delay::default(),
            digests: DigestCache::default(),
            problems: BTreeMap::new(),
        })
    }

    /// The fleet in force.
    pub(super) fn fleet(&self) -> Option<&Fleet> {
        self.settings.fleet.as_ref()
    }

    /// Who has which account.
    pub(super) fn enrolments(&self) -> &Enrolments {
        &self.enrolments
    }

    /// Looks at the whole fleet folder once. An error is of the state, such as a full disk: what was published stays
    /// published, and the next cycle tries again.
    pub(super) fn cycle(&mut self, now: Timestamp, instant: Instant) -> anyhow::Result<Cycle> {
        self.try_cycle(now, instant)
            .with_context(|| format!("{} can't be used", self.state.root().display()))
    }

    fn try_cycle(&mut self, now: Timestamp, instant: Instant) -> io::Result<Cycle> {
        let folder = FleetFolder::open(&self.config);
        let mut unsettled =
            self.settings
                .refresh(folder.as_ref().map_err(copy_of), &self.state, instant)?;
        // A machine of which no good settings are known isn't in the fleet: its problems are told with the fleet's.
        let in_fleet = |name: &HostName| {
            self.fleet()
                .is_some_and(|fleet| fleet.hosts.contains_key(name))
        };
        let of_fleet = |problem: &&Problem| !problem.host.as_ref().is_some_and(in_fleet);
        let mut fleet_problems: Vec<_> = self
            .settings
            .problems
            .iter()
            .filter(of_fleet)
            .cloned()
            .collect();
        // What lies in the folder is neither the old commit nor the new one.
        let git_at_work = folder
            .as_ref()
            .is_ok_and(|folder| folder.find(GIT_LOCK.as_ref()).is_ok());
        if self.git.is_too_long(git_at_work, instant) {
            fleet_problems.push(git_stopped());
        }
        self.tell(None, fleet_problems)?;
        let Some(fleet) = self.settings.fleet.clone() else {
            return Ok(Cycle {
                unsettled,
                accounts: Vec::new(),
            });
        };
        self.enrol(&fleet, now)?;
        if let Ok(folder) = &folder {
            if git_at_work {
                unsettled = true;
            } else {
                unsettled |= self.publish(&fleet, folder, now, instant)?;
            }
        }
        let accounts = fleet.hosts.iter().filter_map(|(name, host)| {
            let uid = self.enrolments.get(name)?.uid;
            Some(Account {
                name: name.clone(),
                uid,
                keys: host.keys.clone(),
            })
        });
        Ok(Cycle {
            unsettled,
            accounts: accounts.collect(),
        })
    }

    /// Gives every machine of the fleet an account and a chroot, and takes the account of every other.
    fn enrol(&mut self, fleet: &Fleet, now: Timestamp) -> io::Result<()> {
        let mut enrolments = self.enrolments.clone();
        let is_gone = |name: &&HostName| !fleet.hosts.contains_key(*name);
        let gone: Vec<_> = self.enrolments.names().filter(is_gone).cloned().collect();
        gone.iter().for_each(|name| enrolments.remove(name));
        for name in fleet.hosts.keys() {
            if enrolments.enrol(name, now).is_none() {
                error!(host = %name, "no user id is left for another machine");
            }
        }
        if enrolments != self.enrolments {
            self.take_over(enrolments)?;
        }
        for name in gone {
            info!(host = %name, "removed");
            self.trees.remove(&name);
            self.problems.remove(&Some(name));
        }
        for name in fleet.hosts.keys() {
            if let Some(enrolment) = self.enrolments.get(name) {
                Publications::of(&self.state.host(name)).enrol(enrolment.uid)?;
            }
        }
        Ok(())
    }

    /// Makes these the enrolments, each new one with an empty folder: what an earlier machine of its name left isn't
    /// its. The folder is emptied before the enrolment lasts, so that a crash in between leaves nothing to it either.
    fn take_over(&mut self, enrolments: Enrolments) -> io::Result<()> {
        let is_new = |name: &&HostName| self.enrolments.get(name).is_none();
        let new: Vec<_> = enrolments.names().filter(is_new).cloned().collect();
        for host in new.iter().map(|name| self.state.host(name)) {
            remove_folder(host.root())?;
            fs::create_dir(host.root())?;
        }
        rustix::fs::syncfs(fs::File::open(self.state.root())?)?;
        enrolments.write(&self.state)?;
        self.enrolments = enrolments;
        for name in new {
            info!(host = %name, "enrolled");
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

    /// Prepares every machine whose tree has changed, makes all of that durable at once, and only then switches.
    fn publish(
        &mut self,
        fleet: &Fleet,
        folder: &FleetFolder,
        now: Timestamp,
        instant: Instant,
    ) -> io::Result<bool> {
        let mut unsettled = false;
        let mut prepared = Vec::new();
        for (name, host) in &fleet.hosts {
            let mut problems: Vec<_> = self
                .settings
                .problems
                .iter()
                .filter(|problem| problem.host.as_ref() == Some(name))
                .cloned()
                .collect();
            match self.prepare(fleet, name, host, folder, now, instant) {
                Verdict::Current => {}
                Verdict::Unsettled(None) => {
                    unsettled = true;
                    continue;
                }
                Verdict::Unsettled(Some(problem)) => {
                    unsettled = true;
                    problems.push(problem);
                }
                Verdict::Prepared(publication, generation) => {
                    prepared.push((name, publication, generation))
                }
                Verdict::Faulty(found) => problems.extend(found),
            }
            self.tell(Some(name), problems)?;
        }
        self.digests.forget_unused();
        if prepared.is_empty() {
            return Ok(unsettled);
        }
        // One call for all of them: an fsync for each of thousands of files would take minutes.
        rustix::fs::syncfs(fs::File::open(self.state.root())?)?;
        for (name, publication, generation) in prepared {
            Publications::of(&self.state.host(name)).switch(*publication)?;
            info!(host = %name, generation = %generation, "published");
        }
        Ok(unsettled)
    }

    fn prepare(
        &mut self,
        fleet: &Fleet,
        name: &HostName,
        host: &Host,
        folder: &FleetFolder,
        now: Timestamp,
        instant: Instant,
    ) -> Verdict {
        let state = self.state.host(name);
        let publications = Publications::of(&state);
        let Some(enrolment) = self.enrolments.get(name) else {
            let advice = "remove machines that are no longer there";
            return Verdict::Faulty(vec![
                Problem::new("fleet.toml", "there is no user id left", advice).of(name),
            ]);
        };
        let published = match publications.published() {
            Ok(published) => published.map(|published| published.generation),
            Err(error) => return Verdict::Faulty(vec![state_problem(name, &error)]),
        };
        if host.paused && published.is_some() {
            return Verdict::Current;
        }
        if fleet.publish.when == When::Deploy || fleet.publish.require_build {
            return Verdict::Faulty(vec![not_approved(name)]);
        }
        let settling = self.trees.entry(name.clone()).or_default();
        let tree = match HostTree::walk(folder, name, host) {
            Ok(tree) => tree,
            Err(problems) => {
                settling.disturb();
                return Verdict::Faulty(problems);
            }
        };
        if !settling.is_settled(&tree, instant) {
            return Verdict::Unsettled(settling.unrest(name, instant));
        }
        let manifest = generation::manifest(name, host, &tree, folder, &mut self.digests, now);
        let prepared = manifest.and_then(|manifest| {
            if published == Some(manifest.generation()) {
                return Ok(None);
            }
            let publication = publications.prepare(&manifest, &tree, folder, enrolment.uid)?;
            Ok(Some((publication, manifest.generation())))
        });
        match prepared {
            Ok(None) => {
                settling.rest();
                Verdict::Current
            }
            Ok(Some((publication, generation))) => {
                settling.rest();
                Verdict::Prepared(Box::new(publication), generation)
            }
            Err(ReadError::Changed) => Verdict::Unsettled(settling.unrest(name, instant)),
            Err(ReadError::Unreadable(problem)) => Verdict::Faulty(vec![problem.of(name)]),
            Err(ReadError::Output(error)) => Verdict::Faulty(vec![state_problem(name, &error)]),
        }
    }

    /// Keeps what is wrong for status, and logs what of it is new.
    fn tell(&mut self, host: Option<&HostName>, problems: Vec<Problem>) -> io::Result<()> {
        let key = host.cloned();
        let known = self.problems.get(&key);
        if known == Some(&problems) {
            return Ok(());
        }
        let is_known = |problem: &&Problem| known.is_some_and(|known| known.contains(problem));
        for problem in problems.iter().filter(|problem| !is_known(problem)) {
            warn!("{problem}");
        }
        let path = match host {
            Some(name) => self.state.host(name).problems(),
            None => self.state.problems(),
        };
        if problems.is_empty() {
            durable::remove(&path)?;
        } else {
            durable::write_json(&path, &problems)?;
        }
        self.problems.insert(key, problems);
        Ok(())
    }
}

/// It is there while git changes what lies in the folder.
const GIT_LOCK: &str = ".git/index.lock";

fn git_stopped() -> Problem {
    Problem::new(
        GIT_LOCK,
        "has been there for over a minute, and nothing is published before it goes",
        "if git isn't at work there any more, remove it",
    )
}

fn state_problem(name: &HostName, error: &io::Error) -> Problem {
    let advice =
        "check the volume that is mounted at /state (is it full?); it is tried again by itself";
    Problem::new("/state", format!("can't be written: {error}"), advice).of(name)
}

fn not_approved(name: &HostName) -> Problem {
    Problem::new(
        "fleet.toml",
        "[publish] asks for an approval or a build, which this version of bento can't record yet",
        "set when = \"change\" and require_build = false",
    )
    .of(name)
}

fn remove_folder(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The same error again: io::Error can't be cloned.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        io::Error::from_raw_os_error,
    )
}
