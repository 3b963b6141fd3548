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
pub(super) struct PassInput<'a> {
    pub(super) state: &'a State,
    pub(super) fleet: &'a Fleet,
    pub(super) folder: &'a FleetFolder,
    pub(super) now: Timestamp,
    pub(super) instant: Instant,
}

/// A machine, with what it has.
pub(super) struct HostPlan<'a> {
    pub(super) name: &'a HostName,
    pub(super) host: &'a Host,
    pub(super) gid: u32,
    pub(super) state: HostState,
}

/// What became of a machine to which nothing is given in a look.
pub(super) enum Withheld {
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
pub(super) struct Staged {
    pub(super) publication: Prepared,
    pub(super) generation: GenerationId,
    /// What it was made of.
    pub(super) tree: HostTree,
}

/// What a machine gets and has, settled, before anything is written.
pub(super) struct StableTree {
    tree: HostTree,
    known: Existing,
}

/// What is there before anything is written.
struct Existing {
    published: Option<Published>,
    build: Option<Build>,
}

impl HostPlan<'_> {
    /// Looks at all that the machine gets. What is wrong without being in the way of that goes to `problems`.
    ///
    /// # Errors
    /// Why nothing, where nothing is to be prepared.
    pub(super) fn scan(
        &self,
        input: &PassInput<'_>,
        sources: &mut Sources<'_>,
        settling: &mut TreeSettling,
        problems: &mut Vec<Problem>,
    ) -> Result<StableTree, Withheld> {
        let published = Publications::of(&self.state).published();
        let published = published.map_err(Withheld::Failed)?;
        let build = match release::read::<Build>(input.folder, self.recorded_name()) {
            Ok(build) => build,
            Err(Unreadable::Unsettled) => return Err(Withheld::Unsettled(None)),
            Err(Unreadable::Damaged(problem)) if input.fleet.publish.require_build => {
                return Err(Withheld::Faulty(vec![problem]));
            }
            Err(Unreadable::Damaged(problem)) => {
                problems.push(problem);
                None
            }
        };
        let known = Existing { published, build };
        self.expect(&known).map_err(Withheld::Failed)?;
        if self.host.paused && known.published.is_some() {
            return Err(Withheld::Current);
        }
        let debounce = input.fleet.publish.debounce.as_duration();
        let tree = sources.walk(self.name, self.host).map_err(|problems| {
            match settling.is_fault(input.instant, debounce) {
                true => Withheld::Faulty(problems),
                false => Withheld::Unsettled(None),
            }
        })?;
        let end = Instant::now().max(input.instant);
        if settling.is_settled(&tree, input.now.into(), input.instant, end, debounce) {
            Ok(StableTree { tree, known })
        } else {
            Err(self.unsettled(input, settling))
        }
    }

    /// Prepares what is to be published. `restless` are files that aren't any more what they were when they were looked
    /// at; a machine that gets one of them has to wait.
    ///
    /// # Errors
    /// Why nothing, where nothing is to be published.
    pub(super) fn prepare(
        &self,
        input: &PassInput<'_>,
        settled: StableTree,
        settling: &mut TreeSettling,
        digests: &mut DigestCache,
        restless: &mut Vec<PathBuf>,
    ) -> Result<Box<Staged>, Withheld> {
        if let Some(held) = self.hold(input, &settled.tree, settling, restless) {
            return Err(held);
        }
        let written = self.write_aside(input, settled, digests);
        if written.is_err() {
            // Half a publication mustn't take the room that the next try needs.
            remove_unfinished(&self.state, self.name);
        }
        match written {
            // What waits for the switch may have to wait longer.
            Ok(Ok(waiting)) => Ok(waiting),
            Ok(Err(withheld)) => {
                settling.rest();
                Err(withheld)
            }
            Err(ReadError::Changed(file)) => {
                settling.note(&file);
                restless.push(file);
                Err(self.unsettled(input, settling))
            }
            Err(ReadError::Unreadable(problem)) => {
                Err(Withheld::Faulty(vec![problem.of(self.name)]))
            }
            Err(ReadError::Output(error)) => Err(Withheld::Failed(error)),
        }
    }

    /// Why nothing, if a machine gets one of the files that are restless.
    pub(super) fn hold(
        &self,
        input: &PassInput<'_>,
        tree: &HostTree,
        settling: &mut TreeSettling,
        restless: &[PathBuf],
    ) -> Option<Withheld> {
        let file = restless.iter().find(|file| tree.holds(file))?;
        settling.note(file);
        Some(self.unsettled(input, settling))
    }

    fn unsettled(&self, input: &PassInput<'_>, settling: &mut TreeSettling) -> Withheld {
        Withheld::Unsettled(settling.unrest(self.name, input.instant))
    }

    /// The name by which builds and approvals are recorded: of a former name's account, the one that the machine has now.
    fn recorded_name(&self) -> &HostName {
        self.host.renamed_to.as_ref().unwrap_or(self.name)
    }

    /// The generation that must be recorded so that this one is published: its own, or of a former name's account what the
    /// same files make under the name that the machine has now.
    fn recorded_generation(
        &self,
        input: &PassInput<'_>,
        tree: &HostTree,
        digests: &mut DigestCache,
        own: GenerationId,
    ) -> Result<GenerationId, ReadError> {
        let now = self.host.renamed_to.as_ref();
        let Some((name, host)) = now.and_then(|name| input.fleet.hosts.get_key_value(name)) else {
            return Ok(own);
        };
        let manifest = generation::manifest(name, host, tree, input.folder, digests, input.now)?;
        Ok(manifest.generation())
    }

    /// Keeps what a build tells of the generation that is published, whatever the folder makes by now. Of any other it
    /// tells nothing, and what was known of the published one stays.
    fn expect(&self, known: &Existing) -> io::Result<()> {
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
        input: &PassInput<'_>,
        settled: StableTree,
        digests: &mut DigestCache,
    ) -> Result<Result<Box<Staged>, Withheld>, ReadError> {
        let (name, folder) = (self.name, input.folder);
        let StableTree { tree, known } = settled;
        let manifest = generation::manifest(name, self.host, &tree, folder, digests, input.now)?;
        let generation = manifest.generation();
        let published = known.published.map(|published| published.generation);
        if published == Some(generation) {
            return Ok(Err(Withheld::Current));
        }
        generation::require_size(&manifest, self.host)?;
        let recorded = self.recorded_generation(input, &tree, digests, generation)?;
        let publish = &input.fleet.publish;
        let approval = match publish.when {
            When::Change => None,
            When::Deploy => match release::read::<Approval>(folder, self.recorded_name()) {
                Ok(approval) => approval,
                Err(Unreadable::Unsettled) => return Ok(Err(Withheld::Unsettled(None))),
                Err(Unreadable::Damaged(problem)) => {
                    return Ok(Err(Withheld::Faulty(vec![problem])));
                }
            },
        };
        let build = known.build.filter(|build| build.generation == recorded);
        if let Some(lack) = release::lack(publish, recorded, approval.as_ref(), build.as_ref()) {
            let source = self.host.source.to_string();
            let told = lack.told(name, &source, published.is_some());
            return Ok(Err(Withheld::Faulty(vec![told])));
        }
        let publications = Publications::of(&self.state);
        let prepare = || publications.prepare(&manifest, &tree, folder, self.gid);
        let publication = prepare().or_else(|error| match error {
            ReadError::Output(full) if made_room(input.state, &full) => prepare(),
            error => Err(error),
        })?;
        if let Some(build) = build.filter(|build| build.comparable) {
            publication
                .expect(build.system)
                .map_err(ReadError::Output)?;
        }
        Ok(Ok(Box::new(Staged {
            publication,
            generation,
            tree,
        })))
    }
}
