//! `bento status`: the state of every machine.

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

/// Show the state of each machine: its published generation, and whether it runs it
#[derive(Debug, Args)]
pub struct StatusCommand {
    #[command(flatten)]
    filter: MachineFilter,
    /// Print JSON; with --watch, one document for each change, each on one line
    #[arg(long)]
    json: bool,
    /// Keep the status on the screen up to date; arrow keys scroll, q quits
    #[arg(long)]
    watch: bool,
    /// Exit with 1 if a machine, or the fleet as a whole, needs attention
    #[arg(long, conflicts_with = "watch")]
    exit_code: bool,
    /// With --watch: exit at the end of standard input. A remote caller has no other way to end this command, because
    /// podman exec doesn't end a command when its caller is gone
    #[arg(long, requires = "watch", hide = true)]
    end_with_input: bool,
    #[command(flatten)]
    appliance: ApplianceOption,
}

/// The options that select machines.
#[derive(Debug, Clone, Args)]
struct MachineFilter {
    /// Show only these machines
    #[arg(value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    /// Show only machines that need attention
    #[arg(long)]
    problems: bool,
}

impl StatusCommand {
    /// Prints the status of the fleet; returns false with `--exit-code` if something needs attention.
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
                    "--watch needs a terminal; in a program, use --watch --json, which prints one document on each line"
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
    /// Removes all other machines; returns the number of machines before the filter for problems.
    fn apply(&self, status: &mut status::Status) -> usize {
        let hosts = &mut status.hosts;
        hosts.retain(|host| self.names.is_empty() || self.names.contains(&host.name));
        let of = hosts.len();
        hosts.retain(|host| !self.problems || host.needs_attention());
        of
    }
}
