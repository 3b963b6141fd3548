//! One machine in a look at the fleet folder: whether something is to be published for it, and that written aside.

use std::io;
use std::time::Instant;

use bento_protocol::{GenerationId, HostName};
use jiff::Timestamp;

use super::publisher::{made_room, remove_unfinished};
use super::settle::TreeSettling;
use crate::fleet::{Fleet, Host, When};
use crate::generation::{self, DigestCache, ReadError};
use crate::problem::Problem;
use crate::publication::{Prepared, Publications};
use crate::published::Published;
use crate::release::{self, Approval, Build, Unreadable};
use crate::state::{HostState, State};
use crate::tree::{FleetFolder, HostTree};

/// What is looked at, and when.
pub(super) struct Look<'a> {
    pub(super) state: &'a State,
    pub(super) fleet: &'a Fleet,
    pub(super) folder: &'a FleetFolder,
    pub(super) now: Timestamp,
    pub(super) instant: Instant,
}

/// A machine, with what it has.
pub(super) struct Candidate<'a> {
    pub(super) name: &'a HostName,
    pub(super) host: &'a Host,
    pub(super) gid: u32,
    pub(super) state: &'a HostState,
}

/// What became of one machine in a look.
pub(super) enum Verdict {
    /// It has what it should have.
    Current,
    /// Something of it is being changed; with what to tell if that takes too long.
    Unsettled(Option<Problem>),
    /// It waits for the switch.
    Prepared(Box<Prepared>, GenerationId),
    /// It keeps what it has.
    Faulty(Vec<Problem>),
    /// It keeps what it has, because the state can't be used.
    Failed(io::Error),
}

/// What is there before anything is written.
struct Known {
    published: Option<Published>,
    build: Option<Build>,
}

impl Candidate<'_> {
    /// Prepares what is to be published. What is wrong without being in the way of that goes to `problems`.
    pub(super) fn prepare(
        &self,
        look: &Look<'_>,
        settling: &mut TreeSettling,
        digests: &mut DigestCache,
        problems: &mut Vec<Problem>,
    ) -> Verdict {
        let published = match Publications::of(self.state).published() {
            Ok(published) => published,
            Err(error) => return Verdict::Failed(error),
        };
        let build = match release::read::<Build>(look.folder, self.name) {
            Ok(build) => build,
            Err(Unreadable::Unsettled) => return Verdict::Unsettled(None),
            Err(Unreadable::Damaged(problem)) if look.fleet.publish.require_build => {
                return Verdict::Faulty(vec![problem]);
            }
            Err(Unreadable::Damaged(problem)) => {
                problems.push(problem);
                None
            }
        };
        let known = Known { published, build };
        if let Err(error) = self.expect(&known) {
            return Verdict::Failed(error);
        }
        if self.host.paused && known.published.is_some() {
            return Verdict::Current;
        }
        let tree = match HostTree::walk(look.folder, self.name, self.host) {
            Ok(tree) => tree,
            Err(problems) => {
                settling.disturb();
                return Verdict::Faulty(problems);
            }
        };
        if !settling.is_settled(&tree, look.instant) {
            return Verdict::Unsettled(settling.unrest(self.name, look.instant));
        }
        let verdict = self.write_aside(look, &tree, digests, known);
        if verdict.is_err() {
            // Half a publication mustn't take the room that the next try needs.
            remove_unfinished(self.state, self.name);
        }
        match verdict {
            Ok(verdict) => {
                settling.rest();
                verdict
            }
            Err(ReadError::Changed) => Verdict::Unsettled(settling.unrest(self.name, look.instant)),
            Err(ReadError::Unreadable(problem)) => Verdict::Faulty(vec![problem.of(self.name)]),
            Err(ReadError::Output(error)) => Verdict::Failed(error),
        }
    }

    /// Keeps what a build tells of the generation that is published, whatever the folder makes by now. Of any other it
    /// tells nothing, and what was known of the published one stays.
    fn expect(&self, known: &Known) -> io::Result<()> {
        let (Some(published), Some(build)) = (&known.published, &known.build) else {
            return Ok(());
        };
        let system = build.comparable.then(|| build.system.clone());
        if build.generation == published.generation && published.expected_system != system {
            Publications::of(self.state).expect(system)?;
        }
        Ok(())
    }

    /// Writes what a settled tree makes aside, unless it is published already or mustn't be.
    fn write_aside(
        &self,
        look: &Look<'_>,
        tree: &HostTree,
        digests: &mut DigestCache,
        known: Known,
    ) -> Result<Verdict, ReadError> {
        let (name, folder) = (self.name, look.folder);
        let manifest = generation::manifest(name, self.host, tree, folder, digests, look.now)?;
        let generation = manifest.generation();
        let published = known.published.map(|published| published.generation);
        if published == Some(generation) {
            return Ok(Verdict::Current);
        }
        generation::require_size(&manifest, self.host)?;
        let publish = &look.fleet.publish;
        let approval = match publish.when {
            When::Change => None,
            When::Deploy => match release::read::<Approval>(folder, name) {
                Ok(approval) => approval,
                Err(Unreadable::Unsettled) => return Ok(Verdict::Unsettled(None)),
                Err(Unreadable::Damaged(problem)) => return Ok(Verdict::Faulty(vec![problem])),
            },
        };
        let build = known.build.filter(|build| build.generation == generation);
        if let Some(lack) = release::lack(publish, generation, approval.as_ref(), build.as_ref()) {
            let source = self.host.source.to_string();
            let told = lack.told(name, &source, published.is_some());
            return Ok(Verdict::Faulty(vec![told]));
        }
        let publications = Publications::of(self.state);
        let prepare = || publications.prepare(&manifest, tree, folder, self.gid);
        let prepared = prepare().or_else(|error| match error {
            ReadError::Output(full) if made_room(look.state, &full) => prepare(),
            error => Err(error),
        })?;
        if let Some(build) = build.filter(|build| build.comparable) {
            prepared.expect(build.system).map_err(ReadError::Output)?;
        }
        Ok(Verdict::Prepared(Box::new(prepared), generation))
    }
}
