use bento_protocol::{GenerationId, Outcome, SystemPath};
use jiff::Timestamp;

use super::Effects;
use super::boot_state::BootState;
use crate::machine::Situation;
use crate::state::record::{Awaiting, Failed, Installed, Recorded};

/// Records of earlier updates that decide about the next.
#[derive(Debug)]
pub(super) struct Knowledge {
    pub(super) installed: Option<Installed>,
    pub(super) awaiting: Option<Awaiting>,
    failed: Option<Failed>,
}

/// Standing of a machine towards the published generation.
#[derive(Debug)]
pub(super) enum Standing {
    /// It is to be updated.
    New,
    /// The generation is installed.
    Installed(Installed),
    /// It takes effect at the next boot.
    Staged(Installed),
    /// It is known to have failed, and isn't tried now.
    Failed(Failed),
    /// Its owner holds it; its last attempt counts, if there was one.
    Held(Option<Box<Standing>>),
}

impl Knowledge {
    pub(super) fn of(effects: &mut impl Effects) -> Self {
        let Recorded {
            installed,
            awaiting,
            failed,
            ..
        } = effects.recorded();
        let is_returning =
            BootState::of(awaiting.as_ref(), &effects.situation()) == BootState::Returning;
        let now = effects.now();
        let returning = awaiting.as_ref().filter(|_| is_returning);
        Knowledge {
            installed,
            failed: returning
                .and_then(|awaiting| Failed::of_boot(awaiting, now))
                .or(failed),
            // What was switched to is installed: there is nothing to wait for, and nothing to take back.
            awaiting: awaiting.filter(|it| !it.is_installed() && !is_returning),
        }
    }

    /// The generation whose secrets are in place.
    pub(super) fn secrets(&self) -> Option<GenerationId> {
        Some(self.installed.as_ref()?.generation)
    }

    pub(super) fn is_installed(&self, generation: GenerationId) -> bool {
        let installed = self.installed.as_ref();
        installed.is_some_and(|installed| installed.generation == generation)
    }

    pub(super) fn standing(
        &self,
        generation: GenerationId,
        is_held: bool,
        retry: bool,
        now: Timestamp,
    ) -> Standing {
        if let Some(awaiting) = &self.awaiting
            && awaiting.installed.generation == generation
        {
            return Standing::Staged(awaiting.installed.clone());
        }
        if let Some(installed) = &self.installed
            && installed.generation == generation
        {
            return Standing::Installed(installed.clone());
        }
        match self.failure_of(generation) {
            Some(failed) if is_held || !(retry || failed.is_due(now)) => {
                Standing::Failed(failed.clone())
            }
            _ if is_held => Standing::Held(self.last().map(Box::new)),
            _ => Standing::New,
        }
    }

    /// The failure of an update, other than one that the machine made by itself.
    fn failure(&self) -> Option<&Failed> {
        self.failed.as_ref().filter(|failed| !failed.auto)
    }

    fn failure_of(&self, generation: GenerationId) -> Option<&Failed> {
        self.failure()
            .filter(|failed| failed.generation == generation)
    }

    /// Result of the last attempt, whatever is published now.
    fn last(&self) -> Option<Standing> {
        let failed = self.failure().cloned();
        failed.map(Standing::Failed).or_else(|| {
            let staged = self.awaiting.as_ref();
            let staged = staged.map(|awaiting| Standing::Staged(awaiting.installed.clone()));
            staged.or_else(|| self.installed.clone().map(Standing::Installed))
        })
    }

    /// Whether a self-update may be tried.
    pub(super) fn auto_is_due(&self, now: Timestamp) -> bool {
        let failed = self.failed.as_ref().filter(|failed| failed.auto);
        failed.is_none_or(|failed| failed.is_due(now))
    }

    /// Description of a polled generation for the terminal.
    pub(super) fn describe(
        &self,
        generation: GenerationId,
        situation: &Situation,
        retry: bool,
    ) -> &'static str {
        let is = |installed: &Installed| installed.generation == generation;
        if self
            .awaiting
            .as_ref()
            .is_some_and(|awaiting| is(&awaiting.installed))
        {
            "takes effect at the next boot"
        } else if let Some(installed) = self.installed.as_ref().filter(|it| is(it)) {
            match situation.is_on(&installed.system) {
                true => "is installed already",
                false if retry => "is installed, but another system runs",
                false => {
                    "is installed, but another system runs: `bento-client update --retry` switches back to it"
                }
            }
        } else if self.failure_of(generation).is_some() {
            "has failed before"
        } else {
            "is new"
        }
    }
}

impl Standing {
    /// Generation and outcome for a report; none if there is nothing to report yet.
    pub(super) fn to_report(&self) -> Option<(GenerationId, Outcome)> {
        match self {
            Standing::New | Standing::Held(None) => None,
            Standing::Installed(installed) => Some((installed.generation, Outcome::Unchanged)),
            Standing::Staged(staged) => Some((staged.generation, Outcome::Staged)),
            Standing::Failed(failed) => Some((failed.generation, failed.outcome)),
            Standing::Held(Some(last)) => last.to_report(),
        }
    }

    pub(super) fn built(&self) -> Option<&SystemPath> {
        match self {
            Standing::New | Standing::Held(None) => None,
            Standing::Installed(installed) | Standing::Staged(installed) => Some(&installed.system),
            Standing::Failed(failed) => failed.built.as_ref(),
            Standing::Held(Some(last)) => last.built(),
        }
    }

    /// Whether what is installed comes of a self-update.
    pub(super) fn is_auto(&self) -> bool {
        match self {
            Standing::Installed(installed) | Standing::Staged(installed) => installed.auto,
            Standing::Held(Some(last)) => last.is_auto(),
            _ => false,
        }
    }

    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Standing::Failed(failed) => Some(&failed.error),
            Standing::Held(Some(last)) => last.error(),
            _ => None,
        }
    }

    /// Reason for doing nothing, where that is a failure of the run.
    pub(super) fn refusal(&self) -> Option<String> {
        let Standing::Failed(failed) = self else {
            return None;
        };
        let when = match failed.retry_at() {
            Some(at) => format!("is tried again after {at:.0}"),
            None => "isn't tried again until it changes".to_owned(),
        };
        Some(format!(
            "generation {} is known to have failed, and {when}; `bento-client update --retry` tries now. It failed with: {}",
            failed.generation.short(),
            failed.error
        ))
    }
}
