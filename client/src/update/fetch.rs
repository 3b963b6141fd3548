use std::time::Instant;

use anyhow::anyhow;
use bento_protocol::Outcome;

use super::error::UpdateError;
use super::{Effects, Transaction};
use crate::generation::pull::PullError;
use crate::state::record::PhaseName;

impl<W: Effects> Transaction<'_, W> {
    /// `pull → verify → stage`, by a delta where there is one, else by the bundle.
    pub(super) fn fetch(&mut self) -> Result<W::Staged, UpdateError> {
        let generation = self.journal.generation;
        let mut verified = None;
        if let Some(base) = self.effects.base(generation) {
            match self.pull_and_verify(Some(base)) {
                Ok(product) => verified = Some(product),
                // The server keeps only the last few; nothing is wrong.
                Err(PullError::Missing(_)) => {}
                // The next run goes on where this one was cut.
                Err(error @ PullError::Lost(_)) if !self.pull_failed_before() => {
                    return Err(self.pull_failed(error));
                }
                Err(error) => {
                    self.effects.warn(&format!(
                        "the delta can't be used, the bundle is fetched: {error}"
                    ));
                    if matches!(error, PullError::Lost(_)) {
                        self.effects.hang_up();
                    }
                }
            }
        }
        let verified = match verified {
            Some(verified) => verified,
            None => self
                .pull_and_verify(None)
                .map_err(|error| self.pull_failed(error))?,
        };
        self.begin(PhaseName::Stage).map_err(UpdateError::local)?;
        let begun = Instant::now();
        let recorded = self.effects.recorded();
        let awaited = recorded.awaiting.map(|awaiting| awaiting.installed);
        let known = [recorded.installed, awaited, recorded.fallback];
        let known = known.into_iter().flatten().map(|it| it.generation);
        let keep: Vec<_> = known.chain(self.journal.before.generation).collect();
        let staged = self.effects.stage(verified, &keep);
        let staged = staged.map_err(UpdateError::local)?;
        let result = format!("generation {} is in place", generation.short());
        self.ended(PhaseName::Stage, begun, &result);
        Ok(staged)
    }

    /// Whether this generation couldn't be pulled in the run before: then it may be the delta that the server can't give.
    fn pull_failed_before(&mut self) -> bool {
        let generation = self.journal.generation;
        self.effects.recorded().failed.is_some_and(|failed| {
            failed.generation == generation && failed.outcome == Outcome::PullFailed
        })
    }

    fn pull_and_verify(&mut self, base: Option<W::Base>) -> Result<W::Verified, PullError> {
        self.begin(PhaseName::Pull).map_err(PullError::Local)?;
        let begun = Instant::now();
        let what = if base.is_some() {
            "as a delta"
        } else {
            "as a bundle"
        };
        let pulled = self.effects.pull(self.journal.generation, base)?;
        self.ended(PhaseName::Pull, begun, what);
        self.begin(PhaseName::Verify).map_err(PullError::Local)?;
        let begun = Instant::now();
        let verified = self.effects.verify(pulled)?;
        self.ended(
            PhaseName::Verify,
            begun,
            "every file is what the manifest says",
        );
        Ok(verified)
    }

    /// Failure of a pull: the network's, the server's or this machine's.
    fn pull_failed(&mut self, error: PullError) -> UpdateError {
        if let PullError::Local(error) = error {
            return UpdateError::local(error);
        }
        if let PullError::Lost(_) = error {
            // The report dials again.
            self.effects.hang_up();
        }
        let generation = self.journal.generation.short();
        UpdateError {
            outcome: Outcome::PullFailed,
            retry: true,
            source: anyhow!(error).context(format!("generation {generation} couldn't be pulled")),
        }
    }
}
