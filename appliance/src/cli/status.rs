//! `bento status`: what is known of every machine.

mod screen;
mod source;
mod view;
mod watch;

use std::io::Write;

use anyhow::bail;
use bento_protocol::HostName;
use clap::Args;
use jiff::Timestamp;

use super::completion;
use super::{Appliance, ApplianceOption};
use crate::problem::Problem;
use crate::status::{self, table};
use crate::text::terminal;
use crate::text::terminal::Terminal;

/// Print which generation each machine finds, and whether it runs that
#[derive(Debug, Args)]
pub struct StatusCommand {
    #[command(flatten)]
    filter: MachineFilter,
    /// Print JSON; with --watch a document a line
    #[arg(long)]
    json: bool,
    /// Follow it on the terminal: arrows scroll, q ends it
    #[arg(long)]
    watch: bool,
    /// Exit with 1 when something needs attention: a machine, or the fleet as a whole
    #[arg(long, conflicts_with = "watch")]
    exit_code: bool,
    /// With --watch: end when standard input does. Whoever runs this from elsewhere can't end it otherwise, because podman
    /// lets a command that it was asked to run go on alone
    #[arg(long, requires = "watch", hide = true)]
    end_with_input: bool,
    #[command(flatten)]
    appliance: ApplianceOption,
}

/// Which machines are shown.
#[derive(Debug, Clone, Args)]
struct MachineFilter {
    /// Only these machines
    #[arg(value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    /// Only what needs attention
    #[arg(long)]
    problems: bool,
}

impl StatusCommand {
    /// Prints the status of the fleet. False when something needs attention and that was asked.
    ///
    /// # Errors
    /// When there is no appliance, it can't be asked, or there is no machine of a given name.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<bool> {
        let terminal = Terminal::of_output();
        if self.watch {
            if self.json {
                watch::print(self, output)?;
            } else if terminal.is_some() && !terminal::is_dumb() {
                watch::show(self)?;
            } else {
                bail!(
                    "--watch needs a terminal that shows what is drawn on it: to follow the status in a program, say \
                     --watch --json, which prints a document a line"
                );
            }
            return Ok(true);
        }
        let mut problems = Vec::new();
        let report = &mut |problem: &Problem| problems.push(problem.to_string());
        let mut status = match self.appliance.find_and_report(report)? {
            Appliance::Here(state, runtime) => {
                status::Status::read(&state, &runtime, Timestamp::now())?
            }
            Appliance::Remote(remote) => remote.read_json(["status", "--json"])?,
        };
        status.add_problems(problems);
        status.require(&self.filter.names)?;
        let of = self.filter.apply(&mut status);
        if self.json {
            writeln!(output, "{}", serde_json::to_string(&status)?)?;
        } else {
            output.write_all(table::render(&status, of, terminal).as_bytes())?;
        }
        Ok(!(self.exit_code && status.needs_attention()))
    }
}

impl MachineFilter {
    /// Leaves only what is to be shown; returns from how many machines it was chosen.
    fn apply(&self, status: &mut status::Status) -> usize {
        let hosts = &mut status.hosts;
        hosts.retain(|host| self.names.is_empty() || self.names.contains(&host.name));
        let of = hosts.len();
        hosts.retain(|host| !self.problems || host.needs_attention());
        of
    }
}
