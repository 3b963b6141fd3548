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

/// Keep this NixOS machine up to date with what its bento appliance publishes
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
    /// Make the first contact with an appliance, on a machine that doesn't have the NixOS module yet
    Bootstrap(Box<bootstrap::Bootstrap>),
    /// Ask for a new generation, build it, switch to it, and report
    Update(update::Update),
    /// Find out whether an update could work, and what it would do; changes nothing
    Check(check::Check),
    /// Show what this machine is on, what is going on, and what comes next
    Status(status::Status),
    /// Report what this machine is on now, also if nothing has changed since its last report
    Report(report::Report),
    /// Go back to the system that ran before the last update
    Rollback(rollback::Rollback),
    /// Reboot, if the system that was installed wants that and its policy allows it now
    RebootIfNeeded(reboot_if_needed::RebootIfNeeded),
    /// Switch the secrets to those of the booted system
    #[command(hide = true)]
    SettleSecrets(settle_secrets::SettleSecrets),
    /// Succeed unless this machine still waits for its first key
    #[command(hide = true)]
    HasKey(has_key::HasKey),
    /// Pause updates of this machine for a while; it still polls and reports
    Hold(hold::Hold),
}

impl Command {
    /// Carries it out.
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
