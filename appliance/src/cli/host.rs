//! `bento host`: edits the machines in `fleet.toml`.

mod add;
mod attributes;
mod instructions;
mod keys;
mod list;
mod pause;
mod remove;
mod rename;
mod settings_file;

use std::io::Write;

use clap::Subcommand;

/// Add, remove, rename, list, pause and resume machines
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Enrol a machine: add its key to fleet.toml, and print the setup for the machine
    Add(add::AddCommand),
    /// Remove machines from the fleet; their files stay
    Remove(remove::RemoveCommand),
    /// Rename a machine
    Rename(rename::RenameCommand),
    /// List the machines of fleet.toml
    List(list::ListCommand),
    /// Stop publishing for machines: they keep their current generation
    Pause(pause::PauseCommand),
    /// Resume publishing for machines
    Resume(pause::ResumeCommand),
}

impl HostCommand {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// The errors of the subcommand.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            HostCommand::Add(add) => add.run(output),
            HostCommand::Remove(remove) => remove.run(output),
            HostCommand::Rename(rename) => rename.run(output),
            HostCommand::List(list) => list.run(output),
            HostCommand::Pause(pause) => pause.run(output),
            HostCommand::Resume(resume) => resume.run(output),
        }
    }
}
