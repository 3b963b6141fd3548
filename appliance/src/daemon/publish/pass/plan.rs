//! Plan: the generations that are new and may be published.

use bento_protocol::{GenerationId, HostName, Manifest};

use super::{HostInPass, HostOutcome, HostPlan, Pass};
use crate::fleet::{Host, When};
use crate::generation;
use crate::release::{self, Approval, Build};
use crate::scan::HostTree;

impl<'a> Pass<'a> {
    /// Plan: reads the files. Continues with a generation that is new and may be published.
    pub(super) fn plan(
        &mut self,
        target: &mut HostInPass<'a>,
        tree: HostTree,
    ) -> Result<HostPlan, HostOutcome> {
        self.require_unchanged(&tree)?;
        let manifest = self.manifest(target.name, target.host, &tree)?;
        let published = target.published.as_ref();
        if published.is_some_and(|published| published.generation == manifest.generation()) {
            return Err(HostOutcome::Current);
        }
        generation::require_size(&manifest, target.host)
            .map_err(|error| self.read_failed(target.name, error))?;
        let build = self.require_released(target, &tree, manifest.generation())?;
        let expected_system = build.filter(|build| build.comparable);
        Ok(HostPlan {
            manifest,
            expected_system: expected_system.map(|build| build.system),
            tree,
        })
    }

    /// Requires the approval and the build that `[publish]` wants. Returns the build, if there is one.
    fn require_released(
        &mut self,
        target: &mut HostInPass<'a>,
        tree: &HostTree,
        own: GenerationId,
    ) -> Result<Option<Build>, HostOutcome> {
        let publish = &self.fleet.publish;
        let name = target.recorded_name();
        // For the account of a former name the same files are recorded as the generation of the present one.
        let present = self.fleet.hosts.get_key_value(name);
        let generation = match present.filter(|_| name != target.name) {
            Some((name, host)) => self.manifest(name, host, tree)?.generation(),
            None => own,
        };
        let approval = match publish.when {
            When::Change => None,
            When::Deploy => release::read::<Approval>(self.folder, name)?,
        };
        let build = target.build.take();
        let build = build.filter(|build| build.generation == generation);
        match release::unmet(publish, generation, approval.as_ref(), build.as_ref()) {
            None => Ok(build),
            Some(requirement) => {
                let source = target.host.source.to_string();
                let has_another = target.published.is_some();
                let problem = requirement.problem(target.name, &source, has_another);
                Err(HostOutcome::Refused(vec![problem]))
            }
        }
    }

    fn manifest(
        &mut self,
        name: &HostName,
        host: &Host,
        tree: &HostTree,
    ) -> Result<Manifest, HostOutcome> {
        let digests = &mut self.reconciler.digests;
        generation::manifest(name, host, tree, self.folder, digests, self.now)
            .map_err(|error| self.read_failed(name, error))
    }
}
