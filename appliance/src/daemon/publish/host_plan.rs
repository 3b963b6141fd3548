//! One machine in a look at the fleet folder: whether something is to be published for it, and that written aside.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use bento_protocol::{GenerationId, HostName};
use jiff::Timestamp;

use super::debounce::TreeSettling;
use super::reconcile::{made_room, remove_unfinished};
use crate::fleet::{Fleet, Host, When};
use crate::generation::{self, DigestCache, ReadError};
use crate::problem::Problem;
use crate::publication::published::Published;
use crate::publication::{Prepared, Publications};
use crate::release::{self, Approval, Build, Unreadable};
use crate::scan::{FleetFolder, HostTree, Sources};
use crate::store::paths::{HostState, State};

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
    pub(super) state: HostState,
}

/// What became of a machine to which nothing is given in a look.
pub(super) enum Verdict {
    /// It has what it should have.
    Current,
    /// Something of it is being changed; with what to tell if that takes too long.
    Unsettled(Option<Problem>),
    /// It keeps what it has.
    Faulty(Vec<Problem>),
    /// It keeps what it has, because the state can't be used.
    Failed(io::Error),
}

/// A publication that waits for the switch.
pub(super) struct Waiting {
    pub(super) publication: Prepared,
    pub(super) generation: GenerationId,
    /// What it was made of.
    pub(super) tree: HostTree,
}

/// What a machine gets and has, settled, before anything is written.
pub(super) struct Settled {
    tree: HostTree,
    known: Known,
}

/// What is there before anything is written.
struct Known {
    published: Option<Published>,
    build: Option<Build>,
}

impl Candidate<'_> {
    /// Looks at all that the machine gets. What is wrong without being in the way of that goes to `problems`.
    ///
    /// # Errors
    /// The verdict, where nothing is to be prepared.
    pub(super) fn survey(
        &self,
        look: &Look<'_>,
        sources: &mut Sources<'_>,
        settling: &mut TreeSettling,
        problems: &mut Vec<Problem>,
    ) -> Result<Settled, Verdict> {
        let published = Publications::of(&self.state).published();
        let published = published.map_err(Verdict::Failed)?;
        let build = match release::read::<Build>(look.folder, self.recorded_name()) {
            Ok(build) => build,
            Err(Unreadable::Unsettled) => return Err(Verdict::Unsettled(None)),
            Err(Unreadable::Damaged(problem)) if look.fleet.publish.require_build => {
                return Err(Verdict::Faulty(vec![problem]));
            }
            Err(Unreadable::Damaged(problem)) => {
                problems.push(problem);
                None
            }
        };
        let known = Known { published, build };
        self.expect(&known).map_err(Verdict::Failed)?;
        if self.host.paused && known.published.is_some() {
            return Err(Verdict::Current);
        }
        let tree = sources.walk(self.name, self.host).map_err(|problems| {
            match settling.is_fault(look.instant) {
                true => Verdict::Faulty(problems),
                false => Verdict::Unsettled(None),
            }
        })?;
        let end = Instant::now().max(look.instant);
        if settling.is_settled(&tree, look.now.into(), look.instant, end) {
            Ok(Settled { tree, known })
        } else {
            Err(self.unsettled(look, settling))
        }
    }

    /// Prepares what is to be published. `restless` are files that aren't any more what they were when they were looked
    /// at; a machine that gets one of them has to wait.
    ///
    /// # Errors
    /// The verdict, where nothing is to be published.
    pub(super) fn prepare(
        &self,
        look: &Look<'_>,
        settled: Settled,
        settling: &mut TreeSettling,
        digests: &mut DigestCache,
        restless: &mut Vec<PathBuf>,
    ) -> Result<Box<Waiting>, Verdict> {
        if let Some(held) = self.hold(look, &settled.tree, settling, restless) {
            return Err(held);
        }
        let written = self.write_aside(look, settled, digests);
        if written.is_err() {
            // Half a publication mustn't take the room that the next try needs.
            remove_unfinished(&self.state, self.name);
        }
        match written {
            // What waits for the switch may have to wait longer.
            Ok(Ok(waiting)) => Ok(waiting),
            Ok(Err(verdict)) => {
                settling.rest();
                Err(verdict)
            }
            Err(ReadError::Changed(file)) => {
                settling.note(&file);
                restless.push(file);
                Err(self.unsettled(look, settling))
            }
            Err(ReadError::Unreadable(problem)) => {
                Err(Verdict::Faulty(vec![problem.of(self.name)]))
            }
            Err(ReadError::Output(error)) => Err(Verdict::Failed(error)),
        }
    }

    /// The verdict, if a machine gets one of the files that are restless.
    pub(super) fn hold(
        &self,
        look: &Look<'_>,
        tree: &HostTree,
        settling: &mut TreeSettling,
        restless: &[PathBuf],
    ) -> Option<Verdict> {
        let file = restless.iter().find(|file| tree.holds(file))?;
        settling.note(file);
        Some(self.unsettled(look, settling))
    }

    fn unsettled(&self, look: &Look<'_>, settling: &mut TreeSettling) -> Verdict {
        Verdict::Unsettled(settling.unrest(self.name, look.instant))
    }

    /// The name by which builds and approvals are recorded: of a former name's account, the one that the machine has now.
    fn recorded_name(&self) -> &HostName {
        self.host.renamed_to.as_ref().unwrap_or(self.name)
    }

    /// The generation that must be recorded so that this one is published: its own, or of a former name's account what the
    /// same files make under the name that the machine has now.
    fn recorded_generation(
        &self,
        look: &Look<'_>,
        tree: &HostTree,
        digests: &mut DigestCache,
        own: GenerationId,
    ) -> Result<GenerationId, ReadError> {
        let now = self.host.renamed_to.as_ref();
        let Some((name, host)) = now.and_then(|name| look.fleet.hosts.get_key_value(name)) else {
            return Ok(own);
        };
        let manifest = generation::manifest(name, host, tree, look.folder, digests, look.now)?;
        Ok(manifest.generation())
    }

    /// Keeps what a build tells of the generation that is published, whatever the folder makes by now. Of any other it
    /// tells nothing, and what was known of the published one stays.
    fn expect(&self, known: &Known) -> io::Result<()> {
        let (Some(published), Some(build)) = (&known.published, &known.build) else {
            return Ok(());
        };
        let system = build.comparable.then(|| build.system.clone());
        if build.generation == published.generation && published.expected_system != system {
            Publications::of(&self.state).expect(system)?;
        }
        Ok(())
    }

    /// Writes what a settled tree makes aside, unless it is published already or mustn't be.
    fn write_aside(
        &self,
        look: &Look<'_>,
        settled: Settled,
        digests: &mut DigestCache,
    ) -> Result<Result<Box<Waiting>, Verdict>, ReadError> {
        let (name, folder) = (self.name, look.folder);
        let Settled { tree, known } = settled;
        let manifest = generation::manifest(name, self.host, &tree, folder, digests, look.now)?;
        let generation = manifest.generation();
        let published = known.published.map(|published| published.generation);
        if published == Some(generation) {
            return Ok(Err(Verdict::Current));
        }
        generation::require_size(&manifest, self.host)?;
        let recorded = self.recorded_generation(look, &tree, digests, generation)?;
        let publish = &look.fleet.publish;
        let approval = match publish.when {
            When::Change => None,
            When::Deploy => match release::read::<Approval>(folder, self.recorded_name()) {
                Ok(approval) => approval,
                Err(Unreadable::Unsettled) => return Ok(Err(Verdict::Unsettled(None))),
                Err(Unreadable::Damaged(problem)) => {
                    return Ok(Err(Verdict::Faulty(vec![problem])));
                }
            },
        };
        let build = known.build.filter(|build| build.generation == recorded);
        if let Some(lack) = release::lack(publish, recorded, approval.as_ref(), build.as_ref()) {
            let source = self.host.source.to_string();
            let told = lack.told(name, &source, published.is_some());
            return Ok(Err(Verdict::Faulty(vec![told])));
        }
        let publications = Publications::of(&self.state);
        let prepare = || publications.prepare(&manifest, &tree, folder, self.gid);
        let publication = prepare().or_else(|error| match error {
            ReadError::Output(full) if made_room(look.state, &full) => prepare(),
            error => Err(error),
        })?;
        if let Some(build) = build.filter(|build| build.comparable) {
            publication
                .expect(build.system)
                .map_err(ReadError::Output)?;
        }
        Ok(Ok(Box::new(Waiting {
            publication,
            generation,
            tree,
        })))
    }
}
