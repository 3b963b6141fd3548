//! `bento host …`: the machines in `fleet.toml`.

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

/// Add machines to the fleet, take them out, rename them, pause them, and list them
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Enrol a machine: put its key into fleet.toml, and print what to type there
    Add(add::AddCommand),
    /// Take machines out of the fleet
    Remove(remove::RemoveCommand),
    /// Give a machine another name; it comes over by itself
    Rename(rename::RenameCommand),
    /// List the machines of fleet.toml
    List(list::ListCommand),
    /// Let machines keep the generation that they have
    Pause(pause::PauseCommand),
    /// Publish for paused machines again
    Resume(pause::ResumeCommand),
}

impl HostCommand {
    /// Runs one of them.
    ///
    /// # Errors
    /// As that one says.
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
