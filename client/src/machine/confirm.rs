//! Proof that the machine works on its new system, by that system's own settings and health checks.

mod grace;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{anyhow, bail};
use bento_nix::process::{self, Limited};

use crate::environment::Environment;
use crate::exit::ExitReason;
use crate::machine::Machine;
use crate::machine::Rejection;
use crate::machine::health;
use crate::machine::health::Finding;
use crate::machine::next_client::NextClient;
use crate::machine::trial_build;
use crate::server::connection::Connection;
use crate::server::identity::Identity;
use crate::server::poll;
use crate::settings::{Health, Settings};
use grace::{Clock, Grace, Stopwatch};

/// Number of grace times after a boot: more is started then than by a switch, and to go back is to boot again.
const AFTER_BOOT: u32 = 5;
/// Longest time for another client to check its settings and the appliance.
const CHECK: Duration = Duration::from_secs(120);

/// Proof of a system that has just begun to run.
pub(crate) struct Proof<'a> {
    /// Settings of the new system.
    new: Option<(Settings, Identity)>,
    old: &'a (Settings, Identity),
    next: Option<NextClient>,
    grace: Grace<Stopwatch>,
    /// Faults that are no reason to go back.
    pub(crate) warnings: Vec<String>,
}

impl<'a> Proof<'a> {
    /// Begins a proof by the present settings: the machine will poll for its next generation with them. The
    /// client that will read them may be another version than this one; it is asked. Whether the machine `must_carry_on`
    /// is what its guard says. What is asked from now on may fail until the grace time is over.
    pub(crate) fn of(
        environment: &Environment,
        old: &'a (Settings, Identity),
        must_carry_on: bool,
        after_boot: bool,
    ) -> Result<Self, Rejection> {
        let new = Identity::with_settings(&environment.config);
        let next = NextClient::of(&environment.machine);
        let program = next.as_ref().map(|next| next.program.clone());
        let is_other = program.is_some() && program != std::env::current_exe().ok();
        let mut warnings = Vec::new();
        if must_carry_on && (is_other || new.is_err()) {
            let asked = program.map(|client| asked(&client, environment));
            let unusable = match (asked, &new) {
                (Some(asked), _) => asked.err(),
                (None, Err(error)) => Some(anyhow!("{error:#}")),
                (None, Ok(_)) => None,
            };
            if let Some(error) = unusable {
                return Err(Rejection {
                    source: error.context("the client couldn't run again with its new settings"),
                    retry: false,
                });
            }
        }
        if let Err(error) = &new {
            warnings.push(format!(
                "the checks went by the old settings, because this client can't use the new ones: {error:#}"
            ));
        }
        let new = new.ok();
        let (settings, _) = new.as_ref().unwrap_or(old);
        let times = if after_boot { AFTER_BOOT } else { 1 };
        let grace = Grace::begin(settings.confirm.grace.duration() * times);
        Ok(Proof {
            new,
            old,
            next,
            grace,
            warnings,
        })
    }

    /// Reaches the appliance: the switch may have restarted the network.
    pub(crate) fn reach(&mut self) -> Result<Connection, Rejection> {
        let (settings, identity) = self.new.as_ref().unwrap_or(self.old);
        let reached = self.grace.keep_trying(|| poll::poll(settings, identity));
        let grace = self.grace.length();
        reached
            .map(|(connection, _)| connection)
            .map_err(|error| Rejection {
                source: error.context(format!(
                    "the appliance, which could be reached before, can't be reached from the new system within {} s",
                    grace.as_secs()
                )),
                retry: true,
            })
    }

    /// Builds something with the Nix that the next client will use: the machine couldn't leave a system that breaks it.
    pub(crate) fn build(&mut self, line: &mut dyn FnMut(&str)) -> Result<(), Rejection> {
        let environment = self.next.as_ref().map(|next| next.environment.as_slice());
        let built = self
            .grace
            .keep_trying(|| trial_build::run(environment, line));
        built.map_err(|problem| Rejection {
            // A collection of garbage may hold it up.
            retry: problem.timed_out,
            source: anyhow!(
                "nothing could be built any more on the new system, because its Nix {}",
                problem.into_text()
            ),
        })
    }

    /// Runs the health checks.
    pub(crate) fn check_health(
        &mut self,
        machine: &Machine,
        line: &mut dyn FnMut(&str),
    ) -> Result<(), Rejection> {
        let (settings, _) = self.new.as_ref().unwrap_or(self.old);
        let health = &settings.health;
        let warnings = healthy(health, &machine.health_checks(), &mut self.grace, line)?;
        self.warnings.extend(warnings);
        Ok(())
    }
}

/// Runs the health checks until all succeed, or the grace time is over: a service may need a moment before it listens.
/// The last answers count; those of checks that aren't required come back as warnings.
fn healthy(
    health: &Health,
    folder: &Path,
    grace: &mut Grace<impl Clock>,
    line: &mut dyn FnMut(&str),
) -> Result<Vec<String>, Rejection> {
    let checked = grace.keep_trying(|| match health::check(health, folder, line) {
        findings if findings.is_empty() => Ok(()),
        findings => Err(findings),
    });
    let findings = checked.err().unwrap_or_default();
    let text = |it: &Finding| format!("health check {}: {}", it.name, it.problem);
    let is_required = |it: &&Finding| it.is_required;
    let required: Vec<_> = findings.iter().filter(is_required).map(text).collect();
    if !required.is_empty() {
        return Err(Rejection {
            source: anyhow!("{}", required.join("; ")).context("the new system isn't healthy"),
            retry: false,
        });
    }
    Ok(findings.iter().map(text).collect())
}

/// Runs another client's check of its settings. Whether it reaches the appliance is checked by other means.
fn asked(client: &Path, environment: &Environment) -> anyhow::Result<()> {
    let mut command = Command::new(client);
    command.arg("check").args(&environment.arguments);
    let mut said = Vec::new();
    let limited = process::run_limited(command, CHECK, &mut |line| said.push(line.to_owned()))?;
    let usage = i32::from(ExitReason::Usage as u8);
    match limited {
        Limited::Ended(status) if status.code() == Some(usage) => bail!("{}", said.join("; ")),
        Limited::Ended(status) if status.code().is_some() => Ok(()),
        Limited::Ended(status) => bail!("{} check ended with {status}", client.display()),
        Limited::TimedOut => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::grace::tests::FakeClock;
    use super::*;

    /// Whether a system with this check stays, and how often it was asked.
    fn judged(required: bool, succeeds_at: usize, seconds: u64) -> (Result<usize, ()>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let text = format!(
            "name = \"kikimora\"\n[[servers]]\naddress = \"a\"\nhost_keys = [\"ssh-ed25519 \
             AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti\"]\n[[health.checks]]\n\
             name = \"web\"\nrequired = {required}\ncommand = [\"/bin/sh\", \"-c\", \"echo >> {0}; \
             [ $(wc -l < {0}) -ge {succeeds_at} ]\"]\n",
            asked.display()
        );
        let health = Settings::parse(&text).unwrap().health;
        let mut grace = Grace::new(FakeClock::default(), Duration::from_secs(seconds));
        let healthy = healthy(&health, folder.path(), &mut grace, &mut |_| {});
        let times = std::fs::read_to_string(asked).unwrap().lines().count();
        (
            healthy.map(|warnings| warnings.len()).map_err(|_| ()),
            times,
        )
    }

    // Issue 10, line 18.
    #[test]
    fn a_service_that_listens_a_moment_later_is_healthy_and_one_that_never_does_is_not() {
        assert_eq!(judged(true, 1, 60), (Ok(0), 1));
        assert_eq!(judged(true, 4, 60), (Ok(0), 4));
        let (never, times) = judged(true, 1000, 60);
        assert!(never.is_err() && times > 4);
        // What is only wanted is waited for, too, and warned of.
        assert_eq!(judged(false, 4, 60), (Ok(0), 4));
        assert_eq!(judged(false, 1000, 60), (Ok(1), times));
    }
}
