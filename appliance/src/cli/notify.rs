//! `bento notify`: the webhook, the last messages to it, and a test.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bento_protocol::HostName;
use clap::Args;
use jiff::Timestamp;

use super::completion;
use super::{Appliance, ApplianceOption};
use crate::fleet::{Fleet, Notify as Settings};
use crate::notify::{self, Condition, LastSent, LastSentFile, Message, SentCondition, Subject};
use crate::status::Status;
use crate::store::atomic_file;
use crate::store::machines;
use crate::store::paths::State;

/// Show the webhook and the last notifications, or send a test
///
/// The appliance posts to the webhook in [notify] of fleet.toml when a machine's state turns bad, and when it is good
/// again.
#[derive(Debug, Args)]
pub struct NotifyCommand {
    /// Send a test message from the appliance, and print the answer; the exit code is 1 if that failed
    #[arg(long)]
    test: bool,
    /// Show only this machine; with --test, send the state of this machine
    #[arg(value_name = "NAME", add = completion::machines())]
    name: Option<HostName>,
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl NotifyCommand {
    /// Prints the settings and the last messages, or sends a test.
    ///
    /// # Errors
    /// When there is no appliance's state, no such machine, or nothing is configured to be tested.
    pub fn run(&self, output: &mut dyn Write) -> Result<ExitCode> {
        let (state, runtime) = match self.appliance.find()? {
            Appliance::Here(state, runtime) => (state, runtime),
            Appliance::Remote(remote) => {
                let name = self.name.as_ref().map(HostName::as_str);
                let test = self.test.then_some("--test");
                return remote.relay(["notify"].into_iter().chain(test).chain(name));
            }
        };
        let status = Status::read(&state, &runtime, Timestamp::now())?;
        let settings = settings(&state)?;
        status.require(self.name.as_slice())?;
        if self.test {
            return self.test(settings, &status, output);
        }
        match settings {
            Some(settings) => self.show(&settings, &state, &status, output)?,
            None => writeln!(output, "no webhook is configured: {UNCONFIGURED}")?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn test(
        &self,
        settings: Option<Settings>,
        status: &Status,
        output: &mut dyn Write,
    ) -> Result<ExitCode> {
        let Some(settings) = settings else {
            bail!("no webhook is configured: {UNCONFIGURED}");
        };
        let conditions = Condition::of_all(status, false);
        let machine = self.name.as_ref().map(|name| {
            let condition = conditions.get(&Subject::Machine(name.clone()));
            let condition = condition.and_then(Option::as_ref);
            condition
                .map(|condition| (name, condition))
                .with_context(|| machines::unknown(name))
        });
        let message = Message::test(machine.transpose()?, Timestamp::now());
        let webhook = &settings.webhook;
        match notify::post(&settings, &message) {
            Ok(answer) => {
                writeln!(output, "webhook {webhook}: {answer}")?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                writeln!(output, "webhook {webhook}: failed: {error:#}")?;
                Ok(ExitCode::FAILURE)
            }
        }
    }

    fn show(
        &self,
        settings: &Settings,
        state: &State,
        status: &Status,
        output: &mut dyn Write,
    ) -> Result<()> {
        let path = state.notified();
        let notified: LastSentFile = atomic_file::read_json(&path)
            .with_context(|| format!("can't read the last notifications from {}", path.display()))?
            .unwrap_or_default();
        let conditions = Condition::of_all(status, false);
        let only = self.name.clone().map(Subject::Machine);
        let is_meant = |subject: &Subject| only.as_ref().is_none_or(|only| only == subject);
        let Settings { webhook, timeout } = settings;
        let limit = timeout.duration().as_secs();
        writeln!(output, "webhook {webhook}, timeout {limit} s")?;
        let last_sent = &notified.webhook;
        show_sent(last_sent, is_meant, output)?;
        let differences = last_sent.differences(&conditions);
        for subject in differences.keys().filter(|subject| is_meant(subject)) {
            writeln!(output, "  {subject}: changed since then, not sent yet")?;
        }
        if let Some(failure) = &last_sent.failure {
            let (at, error) = (failure.at, &failure.error);
            writeln!(output, "  the last attempt failed at {at:.0}: {error}")?;
        }
        Ok(())
    }
}

const UNCONFIGURED: &str = "add [notify] with webhook = \"https://…\" to fleet.toml; the appliance reads it within seconds";

/// The settings in force.
fn settings(state: &State) -> Result<Option<Settings>> {
    let path = state.fleet();
    let fleet: Option<Fleet> = atomic_file::read_json(&path)
        .with_context(|| format!("can't read the last good fleet from {}", path.display()))?;
    Ok(fleet.and_then(|fleet| fleet.notify))
}

/// The messages sent, newest first.
fn show_sent(
    last_sent: &LastSent,
    is_meant: impl Fn(&Subject) -> bool,
    output: &mut dyn Write,
) -> Result<()> {
    let fleet = last_sent.fleet.iter().map(|sent| (Subject::Fleet, sent));
    let machines = last_sent.machines.iter();
    let machines = machines.map(|(name, sent)| (Subject::Machine(name.clone()), sent));
    let all = fleet.chain(machines);
    let mut all: Vec<(Subject, &SentCondition)> =
        all.filter(|(subject, _)| is_meant(subject)).collect();
    all.sort_by_key(|(_, sent)| std::cmp::Reverse(sent.at));
    if all.is_empty() {
        writeln!(output, "  nothing sent yet")?;
    }
    for (subject, sent) in all {
        let condition = if sent.bad { "bad" } else { "good" };
        writeln!(
            output,
            "  {subject}: sent at {:.0} as {condition}, {}",
            sent.at, sent.state
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::fixture::Kept;
    use crate::notify::Condition;
    use crate::report::fixture::second;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        notify: NotifyCommand,
    }

    fn notify(kept: &Kept, name: &str) -> Result<String> {
        let state = kept.state.root().to_str().unwrap();
        let runtime = kept.runtime.root().to_str().unwrap();
        let line = ["notify", "--state", state, "--runtime", runtime, name];
        let mut output = Vec::new();
        Line::try_parse_from(line)?.notify.run(&mut output)?;
        Ok(String::from_utf8(output)?)
    }

    #[test]
    fn the_messages_of_one_machine_are_shown_without_the_others() {
        let kept =
            Kept::new("[notify]\nwebhook = \"https://a/\"\n[hosts.a]\n[hosts.b]\n[hosts.c]\n");
        let bad = Condition {
            bad: true,
            state: "failing",
            silent: false,
            faulty: false,
            since: None,
            error: None,
        };
        let mut notified = LastSentFile::default();
        for name in ["a", "b"] {
            let subject = Subject::Machine(name.parse().unwrap());
            notified.webhook.record(&subject, &bad, second(0));
        }
        atomic_file::write_json(&kept.state.notified(), &notified).unwrap();
        let shown = notify(&kept, "a").unwrap();
        assert!(
            shown.contains("  a: sent at ") && !shown.contains("  b:"),
            "{shown}"
        );
        let none = notify(&kept, "c").unwrap();
        assert!(none.ends_with("  nothing sent yet\n"), "{none}");
        let unknown = notify(&kept, "leshy").unwrap_err().to_string();
        assert!(unknown.contains("no machine leshy"), "{unknown}");
    }
}
