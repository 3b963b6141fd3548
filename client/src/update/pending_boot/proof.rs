use std::time::Instant;

use bento_protocol::{Outcome, SystemPath};

use super::{remember_fallback, unremembered};
use crate::exit::{ExitReason, Failure};
use crate::state::record::{Awaiting, Failed, PhaseName, Record};
use crate::update::boot_state::BootEvent;
use crate::update::{Effects, Transaction, pending_boot};

impl<W: Effects> Transaction<'_, W> {
    /// The system that awaited the boot runs: does it work?
    pub(super) fn prove_boot(&mut self, awaiting: Awaiting) -> Result<(), Failure> {
        self.switch_secrets_quietly(Some(awaiting.installed.generation));
        let begun = Instant::now();
        // A run that died since may have proven it, and what the machine would go back to isn't kept any more.
        let recorded = self.effects.recorded();
        let proven = match awaiting.is_installed() {
            false => recorded.installed,
            true => recorded.fallback,
        };
        let is_proven = proven.as_ref() == Some(&awaiting.installed);
        let confirmed = match is_proven {
            true => Ok(Vec::new()),
            false => self.effects.confirm(awaiting.was_reachable, true),
        };
        match confirmed {
            Ok(warnings) => {
                self.ended(PhaseName::Confirm, begun, "the machine works");
                if !warnings.is_empty() {
                    self.journal.error = Some(warnings.join("; "));
                }
                self.keep(&awaiting)
            }
            Err(rejection) => {
                self.ended(PhaseName::Confirm, begun, "failed");
                self.go_back_by_boot(awaiting, &rejection)
            }
        }
    }

    /// Installs a system that was proven by its boot.
    fn keep(&mut self, awaiting: &Awaiting) -> Result<(), Failure> {
        self.keep_booting(&awaiting.installed.system)?;
        if awaiting.is_installed() {
            self.journal.auto = awaiting.installed.auto;
            // First, because it says that this is proven when the generation of the other one is gone.
            let situation = self.effects.situation();
            remember_fallback(self.effects, &situation);
        }
        let installed = self.effects.record(Record::Installed(&awaiting.installed));
        installed.map_err(unremembered)?;
        self.forget_failure_of(awaiting);
        self.remember_came_back(&awaiting.installed.system, false);
        self.report_outcome(Outcome::Switched);
        pending_boot::set(self.effects, BootEvent::Proven, None).map_err(unremembered)
    }

    /// Removes the recorded failure, unless it is of another generation that was tried since the switch.
    fn forget_failure_of(&mut self, awaiting: &Awaiting) {
        let proven = &awaiting.installed;
        let is_of_it = |failed: &Failed| {
            failed.generation == proven.generation && failed.built.as_ref() == Some(&proven.system)
        };
        if !awaiting.is_installed()
            || self
                .effects
                .recorded()
                .failed
                .as_ref()
                .is_some_and(is_of_it)
        {
            self.or_warn(|effects| effects.record(Record::Failed(None)));
        }
    }

    /// A run that took the system back may have died halfway, before the boot or since.
    fn keep_booting(&mut self, system: &SystemPath) -> Result<(), Failure> {
        let profile = self.effects.situation().profile;
        match self.make_bootable(system) {
            Err(error) if profile.as_ref() != Some(system) => Err(Failure {
                reason: ExitReason::RebuildFailed,
                error: error.context("the system that was booted may not be booted again"),
            }),
            Err(error) => {
                self.effects.warn(&format!("{error:#}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
