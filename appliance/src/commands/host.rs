//! `bento host …`: the machines in `fleet.toml`.

mod add;
mod list;

use std::io::Write;

use clap::Subcommand;

/// Add machines to the fleet, and list them
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Enrol a machine: put its key into fleet.toml, and print what to type there
    Add(add::Add),
    /// List the machines of fleet.toml
    List(list::List),
}

impl HostCommand {
    /// Runs one of them.
    ///
    /// # Errors
    /// As that one says.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            HostCommand::Add(add) => add.run(output),
            HostCommand::List(list) => list.run(output),
        }
    }
}
