//! What `bento-client` can be asked to do: a module for each command, with its arguments and its `run`.

mod bootstrap;
mod check;
mod place;
mod update;

use clap::Subcommand;

use crate::exit::Failure;

/// A command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the first contact with an appliance, on a machine that doesn't have the NixOS module yet
    Bootstrap(bootstrap::Bootstrap),
    /// Ask for a new generation, build it, switch to it, and report
    Update(update::Update),
    /// Find out whether an update could work, and what it would do; changes nothing
    Check(check::Check),
}

impl Command {
    /// Carries it out.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Command::Bootstrap(bootstrap) => bootstrap.run(),
            Command::Update(update) => update.run(),
            Command::Check(check) => check.run(),
        }
    }
}
