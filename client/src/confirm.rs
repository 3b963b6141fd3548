//! Whether the machine works on its new system, by what that system itself says must work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use bento_nix::process::{self, Limited};

use crate::connection::Connection;
use crate::exit::ExitReason;
use crate::health;
use crate::identity::Identity;
use crate::machine::Machine;
use crate::poll;
use crate::run::Site;
use crate::settings::Settings;
use crate::transaction::Unconfirmed;

/// The first pause between two tries of the appliance; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How many grace times the network has after a boot: more is started then than by a switch, and to go back is to boot
/// again.
const AFTER_BOOT: u32 = 5;
/// How long another client may take to look at its settings and at the appliance.
const LOOK: Duration = Duration::from_secs(120);
/// The unit that starts the client.
const UNIT: &str = "bento-update.service";

/// What is asked of a system that has just begun to run.
pub(crate) struct Proof<'a> {
    /// Those that the new system brought.
    new: Option<(Settings, Identity)>,
    old: &'a (Settings, Identity),
    /// What is not as it should be, and no reason to go back.
    pub(crate) warnings: Vec<String>,
}

impl<'a> Proof<'a> {
    /// By the settings that are there now: they are those by which the machine will look for its next generation. The
    /// client that will read them may be another version than this one; it is asked. Whether the machine `must_carry_on`
    /// is what its guard says.
    pub(crate) fn of(
        site: &Site,
        old: &'a (Settings, Identity),
        must_carry_on: bool,
    ) -> Result<Self, Unconfirmed> {
        let new = Identity::with_settings(&site.config);
        let next = next_client(&site.machine);
        let is_other = next.is_some() && next != std::env::current_exe().ok();
        let mut warnings = Vec::new();
        if must_carry_on && (is_other || new.is_err()) {
            let asked = next.map(|client| asked(&client, site));
            let unusable = match (asked, &new) {
                (Some(asked), _) => asked.err(),
                (None, Err(error)) => Some(anyhow!("{error:#}")),
                (None, Ok(_)) => None,
            };
            if let Some(error) = unusable {
                return Err(Unconfirmed {
                    error: error.context("the client couldn't run again with its new settings"),
                    is_passing: false,
                });
            }
        }
        if let Err(error) = &new {
            warnings.push(format!(
                "the checks went by the old settings, because this client can't use the new ones: {error:#}"
            ));
        }
        Ok(Proof {
            new: new.ok(),
            old,
            warnings,
        })
    }

    fn known(&self) -> &(Settings, Identity) {
        self.new.as_ref().unwrap_or(self.old)
    }

    /// Reaches the appliance, with several tries over the grace time: the switch may have restarted the network.
    pub(crate) fn reach(&self, after_boot: bool) -> Result<Connection, Unconfirmed> {
        let (settings, identity) = self.known();
        let patience = if after_boot { AFTER_BOOT } else { 1 };
        let grace = settings.confirm.grace.duration() * patience;
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

/// The client that the machine will start next, by its unit.
fn next_client(machine: &Machine) -> Option<PathBuf> {
    let unit = fs::read_to_string(machine.units().join(UNIT)).ok()?;
    unit.lines()
        .find_map(|line| line.strip_prefix("ExecStart="))?
        .split_whitespace()
        .next()
        .map(PathBuf::from)
}

/// Lets another client look at its settings. That it can't reach the appliance is found out by other means.
fn asked(client: &Path, site: &Site) -> anyhow::Result<()> {
    let mut command = Command::new(client);
    command.arg("check").args(&site.arguments);
    let mut said = Vec::new();
    let limited = process::run_limited(command, LOOK, &mut |line| said.push(line.to_owned()))?;
    let usage = i32::from(ExitReason::Usage as u8);
    match limited {
        Limited::Ended(status) if status.code() == Some(usage) => bail!("{}", said.join("; ")),
        Limited::Ended(status) if status.code().is_some() => Ok(()),
        Limited::Ended(status) => bail!("{} check ended with {status}", client.display()),
        Limited::TimedOut => Ok(()),
    }
}
