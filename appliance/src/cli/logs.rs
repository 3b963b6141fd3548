//! `bento logs`: the reports of a machine.

use std::io::{self, Read, Write};
use std::process::{ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use bento_protocol::{Format, HostName};
use clap::Args;
use serde::Serialize;

use super::completion;
use super::{Appliance, ApplianceOption, Remote};
use crate::logs::{MachineReports, ReportEntry, ReportSelector, follow, rendering};
use crate::store::paths::State;
use crate::text::sanitise;
use crate::text::terminal::Terminal;

/// Show the reports of a machine, newest first, or one report with its build log
#[derive(Debug, Args)]
pub struct LogsCommand {
    /// The machine
    #[arg(add = completion::machines())]
    name: HostName,
    /// Show one report in full: by its number, the beginning of its run's id, or `latest`
    #[arg(long, value_name = "RUN", conflicts_with_all = ["follow", "count"])]
    run: Option<ReportSelector>,
    /// Show the last reports, newest last, and then each new one, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// The number of reports to show [default: all; 10 with --follow]
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<usize>,
    /// Print JSON; with --follow, one line for each report
    #[arg(long)]
    json: bool,
    /// Exit at the end of standard input
    #[arg(long, hide = true, requires = "follow")]
    until_input_ends: bool,
    #[command(flatten)]
    appliance: ApplianceOption,
}

/// The number of reports that `--follow` shows first.
const BEFORE: usize = 10;

/// The document of `bento logs --json`.
#[derive(Debug, Serialize)]
struct ReportList<'a> {
    format: Format,
    name: &'a HostName,
    reports: Vec<ReportEntry>,
}

/// The document of `bento logs --run … --json`.
#[derive(Debug, Serialize)]
struct ReportDocument<'a> {
    format: Format,
    name: &'a HostName,
    report: ReportEntry,
    log: String,
}

impl LogsCommand {
    /// Prints the reports. Fails without a message if the remote `bento` already printed one.
    ///
    /// # Errors
    /// When the appliance can't be asked, or there is no such machine or report.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<ExitCode> {
        match self.appliance.find()? {
            Appliance::Remote(remote) => return self.relay(&remote, output),
            Appliance::Here(state, _) if self.follow => self.follow(&state, output)?,
            Appliance::Here(state, _) => self.show(&state, output)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, state: &State, output: &mut dyn Write) -> anyhow::Result<()> {
        let reports = MachineReports::open_in_use(state, &self.name)?;
        if let Some(selector) = &self.run {
            let report = reports.find(selector)?;
            let log = reports.log(&report)?;
            if !self.json {
                let text = rendering::whole(&report, &log, Terminal::of_output());
                return Ok(output.write_all(text.as_bytes())?);
            }
            return print_json(
                &ReportDocument {
                    format: Format,
                    name: &self.name,
                    report,
                    log,
                },
                output,
            );
        }
        reports.require_any()?;
        let entries = reports.entries().take(self.count.unwrap_or(usize::MAX));
        if self.json {
            let (format, name, reports) = (Format, &self.name, entries.collect());
            let listed = ReportList {
                format,
                name,
                reports,
            };
            return print_json(&listed, output);
        }
        let terminal = Terminal::of_output();
        for entry in entries {
            output.write_all(rendering::brief(&entry, terminal).as_bytes())?;
        }
        Ok(())
    }

    fn follow(&self, state: &State, output: &mut dyn Write) -> anyhow::Result<()> {
        let terminal = Terminal::of_output();
        let ends = |end: mpsc::Sender<_>| {
            follow::when_output_ends(end.clone());
            if self.until_input_ends {
                follow::when_input_ends(end);
            }
        };
        let show = |entry: &ReportEntry| {
            if self.json {
                print_json(entry, output)?;
            } else {
                output.write_all(rendering::brief(entry, terminal).as_bytes())?;
            }
            Ok(output.flush()?)
        };
        follow::follow(state, &self.name, self.count.unwrap_or(BEFORE), ends, show)
    }

    /// Runs the command on the remote appliance, and copies its output.
    fn relay(&self, remote: &Remote, output: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let mut words = vec!["logs".to_owned(), self.name.to_string()];
        words.extend(self.run.iter().map(|run| format!("--run={run}")));
        words.extend(self.count.map(|count| format!("--count={count}")));
        words.extend(self.json.then(|| "--json".to_owned()));
        if self.follow {
            words.extend(["--follow".to_owned(), "--until-input-ends".to_owned()]);
        }
        let mut command = remote.bento(words.iter().map(String::as_str));
        command.stdout(Stdio::piped());
        if self.follow {
            command.stdin(Stdio::piped());
        }
        let mut child = command
            .spawn()
            .with_context(|| remote.failed("can't be run"))?;
        let input = child.stdin.take();
        if self.follow {
            let (sender, end) = mpsc::channel();
            follow::when_output_ends(sender);
            // The remote command exits at the end of its input, also when this process dies.
            thread::spawn(move || {
                let _ = end.recv();
                drop(input);
            });
        }
        if let Some(mut said) = child.stdout.take() {
            copy(&mut said, output)?;
        }
        let status = child
            .wait()
            .with_context(|| remote.failed("can't be run"))?;
        match status.code() {
            Some(0) => Ok(ExitCode::SUCCESS),
            // It printed its own error.
            Some(1) => Ok(ExitCode::FAILURE),
            _ => anyhow::bail!("{}", remote.failed(&format!("ended with {status}"))),
        }
    }
}

/// Copies the output without delay.
fn copy(from: &mut impl Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}

fn print_json(document: &impl Serialize, output: &mut dyn Write) -> anyhow::Result<()> {
    let json = serde_json::to_string(document)?;
    writeln!(output, "{}", sanitise::plain_json(&json))?;
    Ok(())
}
