use std::time::{Duration, Instant};

use bento_protocol::{GenerationId, Outcome, Policy, Report, RunId};
use jiff::Timestamp;

use crate::generation::pull;
use crate::generation::pull::{PullError, Pulled};
use crate::generation::received;
use crate::generation::stage;
use crate::generation::staged;
use crate::generation::staged::Staged;
use crate::generation::verify;
use crate::generation::verify::Verified;
use crate::run::{LiveEffects, StagedSource, connection, usable};
use crate::server::delivery;
use crate::server::poll;
use crate::state::atomic_file;
use crate::state::contact;
use crate::state::record;
use crate::state::record::PastRun;
use crate::state::spool::Spool;
use crate::update::{MachineEffects, ServerEffects};

/// Time for the network to come back with the old system, before its report waits for the next run.
const NETWORK_COMES_BACK: Duration = Duration::from_secs(60);
/// Pause between two tries to reach the appliance.
const PAUSE: Duration = Duration::from_secs(3);
/// Tries to reach the appliance before it counts as out of reach.
const REACH_TRIES: usize = 3;

impl ServerEffects for LiveEffects<'_> {
    type Base = Staged;
    type Pulled = Pulled;
    type Verified = Verified;
    type Staged = StagedSource;

    fn poll(&mut self) -> anyhow::Result<GenerationId> {
        let (settings, identity) = usable(&self.known, self.environment)?;
        let polled = poll::poll(settings, identity);
        let recorded = match &polled {
            Ok(_) => contact::made(self.state),
            Err(error) => contact::failed(self.state, &format!("{error:#}"), Timestamp::now()),
        };
        self.warn_of(recorded);
        let (connection, generation) = polled?;
        self.polled = Some(connection.server().to_owned());
        self.connection = Some(connection);
        // What came of another one isn't wanted any more; what can't be removed goes at the next pull.
        let _ = received::remove_all_but(self.state, Some(&generation));
        Ok(generation)
    }

    fn is_reachable(&mut self) -> bool {
        self.hang_up();
        let Ok((settings, identity)) = usable(&self.known, self.environment) else {
            return false;
        };
        // If it seems to be away, the network isn't proven afterwards: one packet that was lost mustn't decide that.
        for _ in 1..REACH_TRIES {
            if poll::poll(settings, identity).is_ok() {
                return true;
            }
            std::thread::sleep(PAUSE);
        }
        poll::poll(settings, identity).is_ok()
    }

    fn hang_up(&mut self) {
        self.connection = None;
    }

    fn report(&mut self, report: Report) -> bool {
        let report = Report {
            nix: self.nix_version.clone(),
            log: self.tail.text(),
            ..report
        };
        let dropped = match Spool::new(self.state).add(&report) {
            Ok(dropped) => dropped,
            Err(error) => return self.report_without_keeping(report, &error),
        };
        if dropped > 0 {
            self.warn(&format!(
                "too many reports wait: the {dropped} oldest were dropped"
            ));
        }
        self.remember_run(&report);
        let begun = Instant::now();
        let waits_for_network = report.outcome == Outcome::RolledBack;
        loop {
            let is_over = !waits_for_network || begun.elapsed() >= NETWORK_COMES_BACK;
            if is_over || self.try_to_deliver().is_ok() {
                self.deliver();
                return true;
            }
            self.hang_up();
            std::thread::sleep(PAUSE);
        }
    }

    fn deliver(&mut self) -> bool {
        if !self.has_waiting_reports() {
            return true;
        }
        if let Err(error) = self.try_to_deliver() {
            self.warn(&format!(
                "what was to be reported waits for the next run: {error:#}"
            ));
            // It may be dead; the next use of it dials again.
            self.hang_up();
            return false;
        }
        true
    }

    fn staged(&mut self, generation: GenerationId) -> anyhow::Result<Option<StagedSource>> {
        let mut damaged = None;
        let staged = verify::staged(self.state, &generation, &mut |error| damaged = Some(error));
        if let Some(error) = damaged {
            self.warn(&format!("{error:#}"));
        }
        Ok(staged?.map(|staged| self.source_of(staged)))
    }

    fn policy(&mut self, generation: GenerationId) -> Option<Policy> {
        staged::policy(self.state, &generation).ok().flatten()
    }

    fn base(&mut self, generation: GenerationId) -> Option<Staged> {
        staged::newest_other(self.state, &generation)
    }

    fn pull(
        &mut self,
        generation: GenerationId,
        base: Option<Staged>,
    ) -> Result<Pulled, PullError> {
        let source = base.map_or(pull::Source::Bundle, |base| {
            pull::Source::Delta(Box::new(base))
        });
        let known = usable(&self.known, self.environment).map_err(PullError::Local)?;
        let connection = connection(&mut self.connection, known).map_err(PullError::Lost)?;
        let console = &mut self.console;
        pull::pull(
            connection,
            self.state,
            &known.0.name,
            generation,
            source,
            &mut |done, total| console.progress("pull", done, total),
        )
    }

    fn verify(&mut self, pulled: Pulled) -> Result<Verified, PullError> {
        verify::verify(self.state, pulled)
    }

    fn stage(&mut self, verified: Verified, keep: &[GenerationId]) -> anyhow::Result<StagedSource> {
        let staged = stage::stage(self.state, verified, keep)?;
        Ok(self.source_of(staged))
    }
}

impl AsRef<Policy> for StagedSource {
    fn as_ref(&self) -> &Policy {
        self.staged.policy()
    }
}

impl LiveEffects<'_> {
    fn source_of(&mut self, staged: Staged) -> StagedSource {
        let unknown = staged.policy().unknown();
        let unknown: Vec<_> = unknown.map(|key| format!("{key:?}")).collect();
        if !unknown.is_empty() {
            self.warn(&format!(
                "the policy has keys that this version doesn't know and doesn't act on: {}",
                unknown.join(", ")
            ));
        }
        StagedSource {
            config: staged.config.clone(),
            staged,
        }
    }

    /// A disk that is full is no reason to be silent, unless older reports wait: they come first.
    fn report_without_keeping(&mut self, report: Report, error: &anyhow::Error) -> bool {
        self.warn(&format!("the report can't be kept: {error:#}"));
        if !self.deliver() {
            return false;
        }
        // The next start may report this run again, and of a run the appliance counts only the first report.
        let report = Report {
            run: RunId::now(),
            ..report
        };
        let mut deliver = || {
            let known = usable(&self.known, self.environment)?;
            let connection = connection(&mut self.connection, known)?;
            // The record of the last delivery is outdated by that, also if nothing can be written.
            atomic_file::remove_if_there(&self.state.delivered())?;
            delivery::send(connection, &report)?;
            // Otherwise the next run reports it again.
            let _ = delivery::record_delivery(self.state, &report, connection.server());
            Ok(())
        };
        let delivered: anyhow::Result<()> = deliver();
        self.warn_of(delivered).is_some()
    }

    fn remember_run(&mut self, report: &Report) {
        let path = self.state.history();
        let mut runs: Vec<PastRun> = self.read(&path).unwrap_or_default();
        runs.push(PastRun::by(report));
        let too_many = runs.len().saturating_sub(PastRun::KEPT);
        runs.drain(..too_many);
        let remembered = record::write(&path, &runs);
        self.warn_of(remembered);
    }
}
