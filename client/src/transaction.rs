//! An update as a transaction: which phase follows which, and what follows when one fails.
//!
//! Nothing here touches the machine or the network: what does is passed in as a [`World`].

mod world;

use std::time::Instant;

use anyhow::anyhow;
use bento_protocol::{Format, GenerationId, Outcome, Phase, Report, RunId, SystemPath, Systems};
use jiff::Timestamp;

pub use world::World;

use crate::activate::Activation;
use crate::exit::{ExitReason, Failure};
use crate::pull::PullError;
use crate::record::{Installed, Told};

/// Brings the machine to the generation that is published, and tells the appliance.
pub fn update(world: &mut impl World, run: RunId) -> Result<(), Failure> {
    let started = Timestamp::now();
    let before = world.situation().running;
    Transaction {
        world,
        run,
        started,
        before,
        phases: Vec::new(),
    }
    .run()
}

struct Transaction<'w, W: World> {
    world: &'w mut W,
    run: RunId,
    started: Timestamp,
    before: Option<SystemPath>,
    phases: Vec<Phase>,
}

/// An update that didn't succeed.
struct Unsuccessful {
    /// What the report says; without one, there is nothing to report: the server couldn't be asked.
    outcome: Option<Outcome>,
    built: Option<SystemPath>,
    failure: Failure,
}

impl Unsuccessful {
    fn new(reason: ExitReason, outcome: Option<Outcome>, error: anyhow::Error) -> Self {
        Unsuccessful {
            outcome,
            built: None,
            failure: Failure { reason, error },
        }
    }

    fn rebuild(error: anyhow::Error) -> Self {
        Self::new(ExitReason::RebuildFailed, Some(Outcome::BuildFailed), error)
    }
}

impl<W: World> Transaction<'_, W> {
    fn run(mut self) -> Result<(), Failure> {
        let installed = self.world.installed();
        let generation = self.poll(installed.as_ref())?;
        self.world.deliver();
        let same = installed
            .as_ref()
            .filter(|installed| installed.generation == generation);
        if let Some(installed) = same
            && !self.world.is_half_activated()
        {
            return self.nothing_new(installed);
        }
        match self.update(generation, installed.as_ref()) {
            Ok((installed, warning)) => {
                self.report(
                    generation,
                    installed.outcome,
                    Some(installed.system),
                    warning,
                );
                Ok(())
            }
            Err(unsuccessful) => {
                self.go_back(unsuccessful.built.as_ref(), installed.as_ref());
                if let Some(outcome) = unsuccessful.outcome {
                    let error = format!("{:#}", unsuccessful.failure.error);
                    self.report(generation, outcome, unsuccessful.built, Some(error));
                }
                Err(unsuccessful.failure)
            }
        }
    }

    fn poll(&mut self, installed: Option<&Installed>) -> Result<GenerationId, Failure> {
        let begun = Instant::now();
        let generation = self.world.poll().map_err(|error| Failure {
            reason: ExitReason::Server,
            error,
        })?;
        let is_new = installed.is_none_or(|installed| installed.generation != generation);
        let note = if is_new {
            "is new"
        } else {
            "is installed already"
        };
        self.ended(
            "poll",
            begun,
            &format!("generation {} {note}", generation.short()),
        );
        Ok(generation)
    }

    /// The whole way to a new system.
    fn update(
        &mut self,
        generation: GenerationId,
        installed: Option<&Installed>,
    ) -> Result<(Installed, Option<String>), Unsuccessful> {
        let staged = match self
            .world
            .staged(generation)
            .map_err(Unsuccessful::rebuild)?
        {
            Some(staged) => staged,
            None => self.fetch(generation, installed)?,
        };
        self.world.hang_up();
        self.world
            .switch_secrets(Some(generation))
            .map_err(Unsuccessful::rebuild)?;
        let system = self.build(generation, &staged)?;
        let activation = self.activate(&system).map_err(|error| Unsuccessful {
            built: Some(system.clone()),
            ..Unsuccessful::new(
                ExitReason::RebuildFailed,
                Some(Outcome::ActivationFailed),
                error,
            )
        })?;
        if let Some(warning) = &activation.warning {
            self.world.warn(warning);
        }
        let installed = Installed {
            generation,
            system,
            outcome: Outcome::Switched,
        };
        // The new system runs: not to remember that costs only another build, which finds it running.
        if let Err(error) = self.world.record(&installed) {
            self.world.warn(&format!("{error:#}"));
        }
        Ok((installed, activation.warning))
    }

    /// `pull → verify → stage`, by a delta where there is one, else by the bundle.
    fn fetch(
        &mut self,
        generation: GenerationId,
        installed: Option<&Installed>,
    ) -> Result<W::Staged, Unsuccessful> {
        let mut verified = None;
        if let Some(base) = self.world.base(generation) {
            match self.pull_and_verify(generation, Some(base)) {
                Ok(product) => verified = Some(product),
                // The server keeps only the last few; nothing is wrong.
                Err(PullError::Missing(_)) => {}
                Err(error) => self.world.warn(&format!(
                    "the delta can't be used, the bundle is fetched: {error}"
                )),
            }
        }
        let verified = match verified {
            Some(verified) => verified,
            None => self
                .pull_and_verify(generation, None)
                .map_err(|error| match error {
                    PullError::Lost(error) => Unsuccessful::new(ExitReason::Server, None, error),
                    PullError::Missing(_) | PullError::Unverified(_) => Unsuccessful::new(
                        ExitReason::Server,
                        Some(Outcome::BuildFailed),
                        anyhow!(error),
                    ),
                    PullError::Local(error) => Unsuccessful::rebuild(error),
                })?,
        };
        let begun = Instant::now();
        let installed = installed.map(|installed| installed.generation);
        let staged = self
            .world
            .stage(verified, installed)
            .map_err(Unsuccessful::rebuild)?;
        self.ended(
            "stage",
            begun,
            &format!("generation {} is in place", generation.short()),
        );
        Ok(staged)
    }

    fn pull_and_verify(
        &mut self,
        generation: GenerationId,
        base: Option<W::Base>,
    ) -> Result<W::Verified, PullError> {
        let begun = Instant::now();
        let what = if base.is_some() {
            "as a delta"
        } else {
            "as a bundle"
        };
        let pulled = self.world.pull(generation, base)?;
        self.ended("pull", begun, what);
        let begun = Instant::now();
        let verified = self.world.verify(pulled)?;
        self.ended("verify", begun, "every file is what the manifest says");
        Ok(verified)
    }

    fn build(
        &mut self,
        generation: GenerationId,
        staged: &W::Staged,
    ) -> Result<SystemPath, Unsuccessful> {
        let begun = Instant::now();
        match self.world.build(staged) {
            Ok(system) => {
                self.ended("build", begun, system.as_str());
                Ok(system)
            }
            Err(error) => {
                self.ended("build", begun, "failed");
                let error = error.context(format!(
                    "the build of generation {} failed",
                    generation.short()
                ));
                Err(Unsuccessful::rebuild(error))
            }
        }
    }

    fn activate(&mut self, system: &SystemPath) -> anyhow::Result<Activation> {
        let begun = Instant::now();
        let runs = self.world.situation().running.as_ref() == Some(system);
        if runs && !self.world.is_half_activated() {
            self.ended("activate", begun, "this system runs already");
            return Ok(Activation::default());
        }
        let activation = self.world.activate(system);
        let note = if activation.is_ok() {
            "the new system runs"
        } else {
            "failed"
        };
        self.ended("activate", begun, note);
        activation.map_err(|error| error.context(format!("the activation of {system} failed")))
    }

    /// Nothing to do; but the appliance should know if the machine isn't what it was told.
    fn nothing_new(mut self, installed: &Installed) -> Result<(), Failure> {
        self.switch_secrets(Some(installed.generation));
        let situation = self.world.situation();
        if self.world.told() != Some(Told::new(installed.generation, &situation)) {
            self.report(
                installed.generation,
                Outcome::Unchanged,
                Some(installed.system.clone()),
                None,
            );
        }
        Ok(())
    }

    /// After a failure: the system that runs should find the secrets that it was built with.
    fn go_back(&mut self, built: Option<&SystemPath>, installed: Option<&Installed>) {
        let runs_the_new = built.is_some() && self.world.situation().running.as_ref() == built;
        if !runs_the_new {
            self.switch_secrets(installed.map(|installed| installed.generation));
        }
    }

    fn switch_secrets(&mut self, generation: Option<GenerationId>) {
        if let Err(error) = self.world.switch_secrets(generation) {
            self.world.warn(&format!("{error:#}"));
        }
    }

    fn report(
        &mut self,
        generation: GenerationId,
        outcome: Outcome,
        built: Option<SystemPath>,
        error: Option<String>,
    ) {
        let begun = Instant::now();
        let situation = self.world.situation();
        let report = Report {
            format: Format,
            run: self.run,
            generation,
            outcome,
            auto: false,
            started: self.started,
            finished: Timestamp::now(),
            phases: self.phases.clone(),
            system: Systems {
                before: self.before.clone(),
                built,
                running: situation.running,
                booted: situation.booted,
            },
            reboot_required: situation.reboot_required,
            held: situation.held,
            error,
            client: env!("CARGO_PKG_VERSION").to_owned(),
            nix: self.world.nix_version(),
            log: self.world.log(),
        };
        self.world.report(report);
        self.ended("report", begun, outcome.as_str());
    }

    fn ended(&mut self, name: &str, begun: Instant, note: &str) {
        let phase = Phase {
            name: name.to_owned(),
            seconds: begun.elapsed().as_secs_f64(),
        };
        self.world.show(&phase, note);
        self.phases.push(phase);
    }
}

#[cfg(test)]
mod tests;
