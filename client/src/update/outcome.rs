use std::time::Instant;

use anyhow::anyhow;
use bento_protocol::{Format, Outcome, Report, SystemPath, Systems};

use super::boot_state::BootEvent;
use super::knowledge::Standing;
use super::{Effects, Transaction, pending_boot, rollback};
use crate::exit::{ExitReason, Failure};
use crate::state::record::{Failed, Installed, PhaseName, Record, ReportedState};

impl<W: Effects> Transaction<'_, W> {
    /// Records and reports a failure. A pull is tried at every run, and its failure is reported once.
    pub(super) fn fail(&mut self, outcome: Outcome, retry: bool) {
        let is_known = outcome == Outcome::PullFailed && self.is_known_to_fail(outcome);
        self.remember_failure(outcome, retry);
        match is_known {
            true => self.close(),
            false => self.finish(outcome),
        }
    }

    /// Whether this generation failed like this before, and the newest report still says what is so.
    fn is_known_to_fail(&mut self, outcome: Outcome) -> bool {
        let generation = self.journal.generation;
        let failed_before = self
            .effects
            .recorded()
            .failed
            .is_some_and(|failed| failed.generation == generation && failed.outcome == outcome);
        let situation = self.effects.situation();
        let now = ReportedState::new(generation, &situation, situation.reboot_required);
        failed_before && self.effects.reported() == Some(now)
    }

    pub(super) fn remember_failure(&mut self, outcome: Outcome, retry: bool) {
        let (generation, auto) = (self.journal.generation, self.journal.auto);
        // How often a pull failed says nothing of when a build is worth another try.
        let was_pulled = |outcome| outcome != Outcome::PullFailed;
        let same = |failed: &Failed| {
            failed.generation == generation
                && failed.auto == auto
                && was_pulled(failed.outcome) == was_pulled(outcome)
        };
        let count = self
            .effects
            .recorded()
            .failed
            .filter(same)
            .map_or(0, |failed| failed.count);
        let failed = Failed {
            generation,
            auto,
            outcome,
            built: self.journal.built.clone(),
            error: self.journal.error.clone().unwrap_or_default(),
            retry,
            count: count.saturating_add(1),
            at: self.effects.now(),
        };
        self.or_warn(|effects| effects.record(Record::Failed(Some(&failed))));
    }

    /// Records and reports the outcome of the run, and cleans up after it.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.journal.outcome = Some(outcome);
        let recorded = self.begin(PhaseName::Report);
        if let Err(error) = &recorded {
            self.effects.warn(&format!("{error:#}"));
        }
        let is_remembered = outcome != Outcome::Switched || self.remember_installed();
        let is_reported = self.report_outcome(outcome);
        // The next start records and reports what this one couldn't, and rolls back again.
        if outcome == Outcome::RollbackFailed {
            self.return_by_boot();
            return;
        }
        if is_remembered && is_reported {
            self.close();
        } else if self.journal.is_armed && recorded.is_ok() {
            // This start may go on with another run, whose journal knows nothing of what was armed for this one. Where the
            // outcome isn't recorded, the next start knows it from the decision alone.
            self.effects.disarm(self.journal.run);
        }
    }

    /// Reboots at once, whatever the policy is, if switching to the old system failed and a boot leads to it. The start
    /// after it completes the rollback.
    pub(super) fn return_by_boot(&mut self) {
        if self.returns_by_boot {
            self.effects.warn(rollback::REBOOTS);
            let rebooted = self.effects.reboot();
            // Something inhibits the shutdown: the next start tries again.
            self.returns_by_boot = rebooted.is_ok();
            self.or_warn(|_| rebooted);
        }
    }

    fn remember_installed(&mut self) -> bool {
        let Some(system) = self.journal.built.clone() else {
            return true;
        };
        let installed = self.new_installed(&system);
        let result = self.effects.record(Record::Installed(&installed));
        if let Err(error) = &result {
            self.effects.warn(&format!("{error:#}"));
        }
        self.or_warn(|effects| pending_boot::set(effects, BootEvent::Installed, None));
        self.or_warn(|effects| effects.record(Record::Failed(None)));
        // Now, so that a poll with nothing new changes nothing.
        let situation = self.effects.situation();
        pending_boot::remember_fallback(self.effects, &situation);
        result.is_ok()
    }

    /// Removes the armed timer and the journal. A failed rollback of an earlier run stays recorded, unless this run reached
    /// one system or the other.
    pub(super) fn close(&mut self) {
        if self.journal.is_armed {
            self.effects.disarm(self.journal.run);
        }
        let mut unreturned = self.journal.unreturned.take();
        if let Some(Outcome::Switched | Outcome::Staged | Outcome::RolledBack) =
            self.journal.outcome
        {
            while let Some(journal) = unreturned {
                self.effects.disarm(journal.run);
                unreturned = journal.unreturned;
            }
        }
        self.or_warn(|effects| effects.record(Record::Journal(unreturned.as_deref())));
    }

    /// Ends a run with nothing to do; a change of the machine since the last report is reported.
    pub(super) fn report_standing(&mut self, standing: &Standing) -> Result<(), Failure> {
        self.report_change(standing, false);
        match standing.refusal() {
            Some(refusal) => Err(Failure {
                reason: ExitReason::RebuildFailed,
                error: anyhow!(refusal),
            }),
            None => Ok(()),
        }
    }

    /// Reports how the machine stands, if that differs from the last report, or `anew`. Whether there is anything to report.
    pub(super) fn report_change(&mut self, standing: &Standing, anew: bool) -> bool {
        let Some((generation, mut outcome)) = standing.to_report() else {
            return false;
        };
        let mut error = standing.error().map(str::to_owned);
        let mut auto = standing.is_auto();
        if let (Outcome::Unchanged, Some(unreturned)) = (outcome, &self.journal.unreturned) {
            // It may run only half of what is installed.
            (outcome, error, auto) = (
                Outcome::RollbackFailed,
                unreturned.error.clone(),
                unreturned.auto,
            );
        }
        let situation = self.effects.situation();
        let reboot_required = situation.reboot_required || outcome == Outcome::Staged;
        let now = ReportedState::new(generation, &situation, reboot_required);
        if anew || self.effects.reported() != Some(now) {
            self.journal.generation = generation;
            self.journal.built = standing.built().cloned();
            self.journal.error = error;
            self.journal.auto = auto;
            self.report_outcome(outcome);
        }
        true
    }

    pub(super) fn report_outcome(&mut self, outcome: Outcome) -> bool {
        let begun = Instant::now();
        let situation = self.effects.situation();
        let journal = &self.journal;
        // Of another system it would say that all is well.
        let specialisation = situation.specialisation.filter(|it| match &journal.built {
            Some(built) if outcome.is_success() => it.of.contains(built),
            _ => true,
        });
        let report = Report {
            format: Format,
            run: journal.run,
            generation: journal.generation,
            outcome,
            auto: journal.auto,
            started: journal.started,
            finished: self.effects.now(),
            phases: journal.phases.clone(),
            system: Systems {
                before: journal.before.running.clone(),
                built: journal.built.clone(),
                running: situation.running,
                booted: situation.booted,
            },
            reboot_required: situation.reboot_required || outcome == Outcome::Staged,
            held: situation.held,
            error: journal.error.as_deref().map(shortened),
            client: env!("CARGO_PKG_VERSION").to_owned(),
            nix: None,
            machine: situation.machine,
            specialisation: specialisation.map(|it| it.name),
            log: String::new(),
        };
        let is_reported = self.effects.report(report);
        self.ended(PhaseName::Report, begun, outcome.as_str());
        is_reported
    }

    /// The system that ran before another, and the one that booted then. If the system itself ran, those before it.
    fn previous(&mut self, system: &SystemPath) -> (Option<SystemPath>, Option<SystemPath>) {
        let before = &self.journal.before;
        if before.was_on(system) {
            let installed = self.effects.recorded().installed;
            let kept = installed.filter(|it| it.previous.as_ref() != Some(system));
            return kept.map_or((None, None), |it| (it.previous, it.previous_boots));
        }
        let boots = before.specialisation.as_ref().and_then(|specialisation| {
            let profile = before.profile.as_ref();
            let profile = profile.filter(|profile| specialisation.of.contains(profile));
            profile.or(specialisation.of.first()).cloned()
        });
        (before.running.clone(), boots)
    }

    pub(super) fn new_installed(&mut self, system: &SystemPath) -> Installed {
        let (previous, previous_boots) = self.previous(system);
        Installed {
            generation: self.journal.generation,
            system: system.clone(),
            mark: self.journal.mark,
            auto: self.journal.auto,
            previous,
            previous_boots,
        }
    }
}

/// An error of a length that a report may have, with room to spare.
fn shortened(error: &str) -> String {
    const LONGEST: usize = 16 << 10;
    let end = error.floor_char_boundary(LONGEST);
    error[..end].to_owned()
}
