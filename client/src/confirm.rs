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
pub(crate) struct Proof {
    settings: Settings,
    identity: Identity,
    /// What is not as it should be, and no reason to go back.
    pub(crate) warnings: Vec<String>,
}

impl Proof {
    /// By the settings that are there now: they are those by which the machine will look for its next generation.
    pub(crate) fn of(config: &Path, settings: &Settings, identity: &Identity) -> Self {
        let new = Settings::read(config).and_then(|settings| {
            let identity = Identity::read(&settings.identity_file)?;
            Ok((settings, identity))
        });
        match new {
            Ok((settings, identity)) => Proof {
                settings,
                identity,
                warnings: Vec::new(),
            },
            // Another version of the client may understand them.
            Err(error) => Proof {
                settings: settings.clone(),
                identity: identity.clone(),
                warnings: vec![format!(
                    "the new settings couldn't be used for the checks: {error:#}"
                )],
            },
        }
    }

    /// Reaches the appliance, with several tries over the grace time: the switch may have restarted the network.
    pub(crate) fn reach(&mut self) -> Result<Connection, Unconfirmed> {
        let grace = self.settings.confirm.grace.duration();
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match poll::poll(&self.settings, &self.identity) {
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
        let findings = health::check(&self.settings.health, &machine.health_checks(), line);
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
