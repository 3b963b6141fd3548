//! The commands of `bento`: one file for each command, with its arguments and its work.

mod backup;
mod build;
mod check;
mod completion;
mod deploy;
mod diff;
mod flake_update;
pub(crate) mod fleet_folder;
mod health;
mod host;
mod host_key;
mod init;
mod logs;
mod metrics;
mod notify;
mod prompt;
mod published;
mod remote;
mod restore;
mod serve;
mod status;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use fleet_folder::FleetFolderOption;
pub use prompt::ConfirmOption;
pub use remote::{Appliance, ApplianceOption, Remote, RemoteFailed};

/// Keep a fleet of NixOS machines up to date: each machine pulls its configuration
#[derive(Debug, Parser)]
#[command(name = "bento", version)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeCommand),
    Init(init::InitCommand),
    Check(check::CheckCommand),
    #[command(subcommand)]
    Host(host::HostCommand),
    Build(build::BuildCommand),
    Deploy(deploy::DeployCommand),
    Diff(diff::DiffCommand),
    Status(status::StatusCommand),
    Logs(logs::LogsCommand),
    FlakeUpdate(flake_update::FlakeUpdateCommand),
    Metrics(metrics::MetricsCommand),
    Notify(notify::NotifyCommand),
    Backup(backup::BackupCommand),
    Restore(restore::RestoreCommand),
    HostKey(host_key::HostKeyCommand),
    Health(health::HealthCommand),
    #[command(hide = true)]
    Published(published::PublishedCommand),
}

impl CommandLine {
    /// Runs the command; it prints to `output`.
    ///
    /// # Errors
    /// The errors of the command, as one chain: what failed, where, and what to do.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::Serve(serve) => serve.run()?,
            Command::Init(init) => init.run(output)?,
            Command::Check(check) => return check.run(output).map(code),
            Command::Host(host) => host.run(output)?,
            Command::Build(build) => return build.run(output),
            Command::Deploy(deploy) => return deploy.run(output).map(code),
            Command::Diff(diff) => diff.run(output)?,
            Command::Status(status) => return status.run(output).map(code),
            Command::Logs(logs) => return logs.run(output),
            Command::FlakeUpdate(flake_update) => return flake_update.run(output),
            Command::Metrics(metrics) => return metrics.run(output),
            Command::Notify(notify) => return notify.run(output),
            Command::Backup(backup) => backup.run(output)?,
            Command::Restore(restore) => restore.run(output)?,
            Command::HostKey(host_key) => host_key.run(output)?,
            Command::Health(health) => health.run(output)?,
            Command::Published(published) => published.run(output)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl CommandLine {
    /// Whether the command only shows something, so that a closed pipe leaves no work undone.
    pub fn only_shows(&self) -> bool {
        matches!(
            self.command,
            Command::Diff(_)
                | Command::Status(_)
                | Command::Logs(_)
                | Command::Metrics(_)
                | Command::HostKey(_)
                | Command::Published(_)
                | Command::Host(host::HostCommand::List(_))
        )
    }
}

/// The exit code for a result.
fn code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
