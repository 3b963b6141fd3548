//! Scan and debounce: the files of each machine, once they are stable.

use std::time::Instant;

use super::{HostInPass, HostOutcome, HostScan, Pass};
use crate::problem::Problem;
use crate::publication::Publications;
use crate::release::{self, RecordError};
use crate::scan::{HostTree, Sources};

impl<'a> Pass<'a> {
    /// Scan: finds all files of each machine, before any is read.
    pub(in crate::daemon::publish) fn scan(&mut self) -> Vec<(HostInPass<'a>, HostScan)> {
        let listings = std::mem::take(&mut self.reconciler.listings);
        let mut sources = Sources::new(self.folder, listings);
        let targets = self.targets();
        let scans = self.each(targets, |pass, target, ()| {
            pass.read_current(target)?;
            if target.host.paused && target.published.is_some() {
                return Err(HostOutcome::Current);
            }
            let tree = sources.walk(target.name, target.host);
            let end = Instant::now().max(pass.instant);
            Ok(HostScan { tree, end })
        });
        self.reconciler.listings = sources.into_listings();
        scans
    }

    /// Every machine of the fleet that has an account.
    fn targets(&mut self) -> Vec<(HostInPass<'a>, ())> {
        let mut targets = Vec::new();
        for (name, host) in &self.fleet.hosts {
            let settings = &self.reconciler.settings;
            let of_host = |problem: &&Problem| problem.host.as_ref() == Some(name);
            let problems = settings.problems.iter().filter(of_host).cloned().collect();
            let Some(account) = self.reconciler.accounts().get(name) else {
                // The cause is a problem of its account.
                self.set_problems(name, problems);
                continue;
            };
            let target = HostInPass {
                name,
                host,
                gid: account.uid,
                state: self.reconciler.state.host(name),
                published: None,
                build: None,
                problems,
            };
            targets.push((target, ()));
        }
        targets
    }

    /// Reads the current publication of a machine, and its last build. If that is a build of the published generation, its
    /// system becomes the expected one, whatever the folder holds by now.
    fn read_current(&self, target: &mut HostInPass<'a>) -> Result<(), HostOutcome> {
        let failed = |error| HostOutcome::Failed(self.reconciler.unwritable(&error));
        let publications = Publications::of(&target.state);
        target.published = publications.published().map_err(failed)?;
        let is_required = self.fleet.publish.require_build;
        target.build = match release::read(self.folder, target.recorded_name()) {
            Err(RecordError::Damaged(problem)) if !is_required => {
                target.problems.push(problem);
                None
            }
            build => build?,
        };
        if let (Some(published), Some(build)) = (&target.published, &target.build) {
            let system = build.comparable.then(|| build.system.clone());
            if build.generation == published.generation && published.expected_system != system {
                publications.set_expected_system(system).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Debounce: continues with a stable tree.
    pub(super) fn debounce(
        &mut self,
        target: &mut HostInPass<'a>,
        scan: HostScan,
    ) -> Result<HostTree, HostOutcome> {
        let debounce = self.fleet.publish.debounce.duration();
        let hosts = &mut self.reconciler.debounce;
        let host = hosts.entry(target.name.clone()).or_default();
        let (now, begin, end) = (self.now.into(), self.instant, scan.end);
        match scan.tree {
            Ok(tree) if host.is_stable(&tree, now, begin, end, debounce) => Ok(tree),
            Err(problems) if host.is_fault(begin, debounce) => Err(HostOutcome::Refused(problems)),
            _ => Err(HostOutcome::Unstable(None)),
        }
    }
}
