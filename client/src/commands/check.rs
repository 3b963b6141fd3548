use std::fmt::Write;

use anyhow::anyhow;
use bento_protocol::GenerationId;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::place::Place;
use crate::console;
use crate::exit::{Because, ExitReason, Failure};
use crate::generation::staged;
use crate::machine::Situation;
use crate::server::connection::Greeted;
use crate::server::identity::Identity;
use crate::server::poll;
use crate::settings::{Server, Settings};
use crate::state::State;
use crate::state::hold;
use crate::state::record;
use crate::state::record::{Awaiting, Failed, Installed};
use crate::update::BootState;

/// Check that an update can work, and print what it would do; changes nothing.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    place: Place,
    /// Check only the settings, without root, a key or a server
    #[arg(long)]
    settings_only: bool,
    /// Print the findings as a JSON array
    #[arg(long)]
    json: bool,
}

/// Result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    subject: String,
    good: bool,
    says: String,
    #[serde(skip)]
    reason: ExitReason,
}

impl Check {
    /// Runs the command. It prints all findings; the failure only names the first bad one.
    pub fn run(&self) -> Result<(), Failure> {
        let settings = Settings::read(&self.place.config).because(ExitReason::Usage)?;
        let mut findings = vec![good(
            "settings",
            format!("{}, for {}", self.place.config.display(), settings.name),
        )];
        if self.settings_only {
            return self.print(&findings).because(ExitReason::Usage);
        }
        let state = self.place.state()?;
        let identity = Identity::read(&settings.identity_file);
        findings.push(check_identity(&settings, &identity));
        let mut published = None;
        for server in &settings.servers {
            let found = check_server(server, &settings, identity.as_ref().ok(), &mut findings);
            published = published.or(found);
        }
        let installed: Option<Installed> =
            record::read(&state.installed()).because(ExitReason::Usage)?;
        let known = installed.iter().map(|it| it.system.clone());
        let situation = self.place.machine().situation_with(|| known.collect());
        let running = situation.running.as_ref();
        findings.push(good(
            "running",
            running.map_or("no known system".to_owned(), ToString::to_string),
        ));
        findings.push(good("installed", installed_text(installed.as_ref())));
        findings.push(match published {
            Some(published) => good("update", would_do(&state, published, &situation)?),
            None => Finding {
                good: false,
                ..good(
                    "update",
                    "couldn't work: see the BAD lines above".to_owned(),
                )
            },
        });
        self.print(&findings).because(ExitReason::Usage)?;
        match findings.iter().find(|finding| !finding.good) {
            None => Ok(()),
            Some(bad) => Err(anyhow!("{} isn't good: see above", bad.subject)).because(bad.reason),
        }
    }

    fn print(&self, findings: &[Finding]) -> anyhow::Result<()> {
        if self.json {
            let json = serde_json::to_string_pretty(findings)?;
            return Ok(console::print(&(json + "\n"))?);
        }
        let mut text = String::new();
        let width = findings
            .iter()
            .map(|finding| finding.subject.len())
            .max()
            .unwrap_or(0);
        for Finding {
            subject,
            good,
            says,
            ..
        } in findings
        {
            let mark = if *good { "ok" } else { "BAD" };
            writeln!(text, "{mark:<4} {subject:<width$}  {says}")?;
        }
        Ok(console::print(&text)?)
    }
}

fn good(subject: &str, says: String) -> Finding {
    Finding {
        subject: subject.to_owned(),
        good: true,
        says,
        reason: ExitReason::Done,
    }
}

fn bad(subject: &str, reason: ExitReason, error: &anyhow::Error) -> Finding {
    Finding {
        subject: subject.to_owned(),
        good: false,
        says: format!("{error:#}"),
        reason,
    }
}

fn check_identity(settings: &Settings, identity: &anyhow::Result<Identity>) -> Finding {
    let file = settings.identity_file.display();
    let check = || {
        let identity = identity.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        let mode = identity.mode()?;
        if mode & 0o077 != 0 {
            return Err(anyhow!(
                "others may read {file} (mode {mode:04o}): run `chmod 600 {file}`, and replace the key if somebody read it"
            ));
        }
        Ok(format!(
            "{file}, mode {mode:04o}, {}",
            identity.fingerprint()
        ))
    };
    match check() {
        Ok(says) => good("identity", says),
        Err(error) => bad("identity", ExitReason::Usage, &error),
    }
}

/// Tries each step with a server, and returns the generation that it publishes.
fn check_server(
    server: &Server,
    settings: &Settings,
    identity: Option<&Identity>,
    findings: &mut Vec<Finding>,
) -> Option<GenerationId> {
    let subject = format!("server {server}");
    let mut check = || {
        let greeted = Greeted::meet(
            server,
            settings.proxy_command.as_deref(),
            &settings.timeouts,
        )?;
        greeted.verify(&server.host_keys)?;
        let shown = greeted.host_key().fingerprint();
        findings.push(good(
            &subject,
            format!("answers with the pinned host key {shown}"),
        ));
        let Some(identity) = identity else {
            return Ok(None);
        };
        let connection = greeted.log_in(
            &server.host_keys,
            &settings.name,
            identity,
            &settings.timeouts,
        )?;
        findings.push(good(&subject, format!("lets {} in", settings.name)));
        let generation = poll::published(&connection)?;
        findings.push(good(&subject, format!("publishes generation {generation}")));
        Ok(Some(generation))
    };
    let result: anyhow::Result<_> = check();
    result.unwrap_or_else(|error| {
        findings.push(bad(&subject, poll::reason_of(&error), &error));
        None
    })
}

fn installed_text(installed: Option<&Installed>) -> String {
    match installed {
        Some(installed) => format!("generation {}, {}", installed.generation, installed.system),
        None => "nothing by bento yet".to_owned(),
    }
}

/// Action of the next run for the published generation.
fn would_do(
    state: &State,
    published: GenerationId,
    situation: &Situation,
) -> Result<String, Failure> {
    let read = || -> anyhow::Result<(Option<Awaiting>, Option<Installed>, Option<Failed>)> {
        Ok((
            record::read(&state.awaiting())?,
            record::read(&state.installed())?,
            record::read(&state.failed())?,
        ))
    };
    let (awaiting, installed, failed) = read().because(ExitReason::Usage)?;
    let (generation, now) = (published.short(), Timestamp::now());
    if let Some(about_boot) = would_do_about_boot(awaiting.as_ref(), published, situation) {
        return Ok(about_boot);
    }
    if let Some(installed) = installed.filter(|installed| installed.generation == published) {
        return Ok(match situation.is_on(&installed.system) {
            true => "would do nothing".to_owned(),
            false => "would do nothing: another system runs than the installed one; \
                      `bento-client update --retry` switches back to it"
                .to_owned(),
        });
    }
    if hold::until(state, now).is_some() {
        return Ok(
            "would only report: updates are paused; `bento-client hold off` ends that".to_owned(),
        );
    }
    let failed = failed.filter(|failed| failed.generation == published && !failed.auto);
    if let Some(failed) = failed.filter(|failed| !failed.is_due(now)) {
        let when = failed
            .retry_at()
            .map_or("isn't tried again until it changes".to_owned(), |at| {
                format!("is tried again after {at:.0}")
            });
        return Ok(format!(
            "would do nothing: generation {generation} has failed, and {when}; `bento-client update --retry` tries now"
        ));
    }
    let is_staged = staged::find(state, &published).is_ok_and(|staged| staged.is_some());
    let pull = if is_staged { "" } else { "pull, " };
    Ok(format!(
        "would {pull}build and activate generation {generation}"
    ))
}

/// Action of the next run for a boot that an update waits for, before anything else.
fn would_do_about_boot(
    awaiting: Option<&Awaiting>,
    published: GenerationId,
    situation: &Situation,
) -> Option<String> {
    let generation = awaiting?.installed.generation;
    let short = generation.short();
    match BootState::of(awaiting, situation) {
        BootState::Staged if generation == published => Some(format!(
            "would do nothing: generation {short} takes effect at the next boot"
        )),
        BootState::Unproven | BootState::Stuck => {
            Some(format!("would prove generation {short}, which was booted"))
        }
        BootState::Returning => Some(format!(
            "would reboot: generation {short} failed its proof after the last boot"
        )),
        BootState::FellBack | BootState::Returned => Some(format!(
            "would give up generation {short}: the last boot went back from it"
        )),
        BootState::Idle
        | BootState::Staged
        | BootState::Rebooting
        | BootState::Withdrawn
        | BootState::Overridden => None,
    }
}
