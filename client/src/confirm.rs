//! Whether the machine works on its new system, by what that system itself says must work.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::connection::Connection;
use crate::health;
use crate::identity::Identity;
use crate::machine::Machine;
use crate::poll;
use crate::settings::Settings;
use crate::transaction::Unconfirmed;

/// The first pause between two tries of the appliance; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is asked of a system that has just begun to run.
pub(crate) struct Proof<'a> {
    /// Those that the new system brought.
    new: Option<(Settings, Identity)>,
    old: &'a (Settings, Identity),
    /// What is not as it should be, and no reason to go back.
    pub(crate) warnings: Vec<String>,
}

impl<'a> Proof<'a> {
    /// By the settings that are there now: they are those by which the machine will look for its next generation.
    pub(crate) fn of(config: &Path, old: &'a (Settings, Identity)) -> Self {
        let new = Identity::with_settings(config);
        // Another version of the client may understand those that this one doesn't.
        let warning = new
            .as_ref()
            .err()
            .map(|error| format!("the new settings couldn't be used for the checks: {error:#}"));
        Proof {
            new: new.ok(),
            old,
            warnings: warning.into_iter().collect(),
        }
    }

    fn known(&self) -> &(Settings, Identity) {
        self.new.as_ref().unwrap_or(self.old)
    }

    /// Reaches the appliance, with several tries over the grace time: the switch may have restarted the network.
    pub(crate) fn reach(&self) -> Result<Connection, Unconfirmed> {
        let (settings, identity) = self.known();
        let grace = settings.confirm.grace.duration();
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match poll::poll(settings, identity) {
                Ok((connection, _)) => return Ok(connection),
                Err(error) if begun.elapsed() + pause >= grace => {
                    return Err(Unconfirmed {
                        error: error.context(format!(
                            "the appliance, which could be reached before, can't be reached from the new system within {} s",
                            grace.as_secs()
                        )),
                        is_passing: true,
                    });
                }
                Err(_) => thread::sleep(pause),
            }
            pause = (pause + pause / 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs the health checks.
    pub(crate) fn check_health(
        &mut self,
        machine: &Machine,
        line: &mut dyn FnMut(&str),
    ) -> Result<(), Unconfirmed> {
        let findings = health::check(&self.known().0.health, &machine.health_checks(), line);
        let mut required = Vec::new();
        for finding in findings {
            let text = format!("health check {}: {}", finding.name, finding.problem);
            match finding.is_required {
                true => required.push(text),
                false => self.warnings.push(text),
            }
        }
        if required.is_empty() {
            return Ok(());
        }
        Err(Unconfirmed {
            error: anyhow!("{}", required.join("; ")).context("the new system isn't healthy"),
            is_passing: false,
        })
    }
}
