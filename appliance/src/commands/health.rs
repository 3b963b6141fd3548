//! `bento health`: whether the appliance in this container serves machines.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::privilege::Privileges;
use crate::session::handshake;
use crate::state::Runtime;

/// How long sshd may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The appliance is the first process of its container.
const APPLIANCE: u32 = 1;

/// Tells whether the appliance in this container serves machines, for HealthCmd=
///
/// It begins an SSH connection as a machine does. Exit code 0 if sshd answers and the first publication is done,
/// otherwise 1, with one line that says why.
#[derive(Debug, Args)]
pub struct Health {
    /// Also print what the appliance is privileged to do
    #[arg(long)]
    verbose: bool,

    /// Where the appliance listens
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:2222",
        hide = true
    )]
    address: SocketAddr,

    /// Where the appliance keeps what lives as long as the container
    #[arg(long, value_name = "DIR", default_value = "/run/bento", hide = true)]
    runtime: PathBuf,
}

impl Health {
    /// Prints one line if all is well.
    ///
    /// # Errors
    /// When the appliance doesn't serve machines.
    pub fn run(&self, output: &mut dyn Write) -> Result<()> {
        let sshd = handshake(self.address, LIMIT)?;
        let ready = Runtime::new(&self.runtime).ready();
        let done = ready
            .try_exists()
            .with_context(|| format!("can't look for {}", ready.display()))?;
        ensure!(
            done,
            "sshd answers, but the first publication isn't done yet"
        );
        writeln!(output, "healthy: {sshd}")?;
        if self.verbose {
            let privileges =
                Privileges::of(APPLIANCE).context("can't read the appliance's privileges")?;
            writeln!(output, "{privileges}")?;
        }
        Ok(())
    }
}
