//! Commands of `bento-client`: a module each, with its arguments and its `run`.

mod bootstrap;
mod check;
mod has_key;
mod hold;
mod place;
mod reboot_if_needed;
mod report;
mod rollback;
mod settle_secrets;
mod status;
mod update;

use clap::{Parser, Subcommand};

use crate::exit::Failure;

/// Keep this NixOS machine up to date with the configuration that its bento appliance publishes
#[derive(Debug, Parser)]
#[command(name = "bento-client", version)]
pub struct CommandLine {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// A command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up a machine that doesn't have the NixOS module yet: write its settings, and create its key
    Bootstrap(Box<bootstrap::Bootstrap>),
    /// Poll for a new generation, build it, switch to it, and report the result
    Update(update::Update),
    /// Check that an update can work, and print what it would do; changes nothing
    Check(check::Check),
    /// Show the systems of this machine, the run in progress, and the next step
    Status(status::Status),
    /// Report the current state of this machine, even if nothing has changed since the last report
    Report(report::Report),
    /// Go back to the system that ran before the last update
    Rollback(rollback::Rollback),
    /// Reboot, if the installed system needs it and its policy allows it now
    RebootIfNeeded(reboot_if_needed::RebootIfNeeded),
    /// Switch the secrets to those of the booted system
    #[command(hide = true)]
    SettleSecrets(settle_secrets::SettleSecrets),
    /// Fail if this machine has no key yet
    #[command(hide = true)]
    HasKey(has_key::HasKey),
    /// Pause updates of this machine; it still polls and reports
    ///
    /// Without arguments, print when the pause ends.
    Hold(hold::Hold),
}

impl Command {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        match self {
            Command::Bootstrap(bootstrap) => bootstrap.run(),
            Command::Update(update) => update.run(),
            Command::Check(check) => check.run(),
            Command::Status(status) => status.run(),
            Command::Report(report) => report.run(),
            Command::Rollback(rollback) => rollback.run(),
            Command::RebootIfNeeded(reboot) => reboot.run(),
            Command::SettleSecrets(secrets) => secrets.run(),
            Command::HasKey(has_key) => has_key.run(),
            Command::Hold(hold) => hold.run(),
        }
    }
}
