//! `bento health`: checks that the appliance in this container serves machines.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_protocol::HostName;
use clap::Args;

use crate::daemon::privileges::Privileges;
use crate::problem::lines;
use crate::sshd::handshake;
use crate::store::accounts::Accounts;
use crate::store::paths::{Runtime, State};
use crate::store::permissions;
use crate::store::permissions::{Depth, Rule};
use crate::text::list::first_few;

/// The time limit for sshd's answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The most locked-out machines that are listed.
const NAMED: usize = 5;
/// The process id of the appliance: it is the first process of its container.
const APPLIANCE: u32 = 1;

/// Check that the appliance in this container serves machines, for HealthCmd=
///
/// Starts an SSH connection as a machine does, and checks owners and modes of each machine's chroot and keys as sshd
/// does. The exit code is 0 if sshd answers, the first publication is done, and machines can log in; otherwise it is 1,
/// and one line gives the reason.
#[derive(Debug, Args)]
pub struct HealthCommand {
    /// Also print the appliance's privileges
    #[arg(long)]
    verbose: bool,

    /// The appliance's address
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:2222",
        hide = true
    )]
    address: SocketAddr,

    /// The folder of the appliance's runtime files
    #[arg(long, value_name = "DIR", default_value = "/run/bento", hide = true)]
    runtime: PathBuf,

    /// The folder of the appliance's state
    #[arg(long, value_name = "DIR", default_value = "/state", hide = true)]
    state: PathBuf,
}

impl HealthCommand {
    /// Prints one line if the appliance is healthy.
    ///
    /// # Errors
    /// When the appliance doesn't serve machines.
    pub fn run(&self, output: &mut dyn Write) -> Result<()> {
        let sshd = handshake(self.address, LIMIT).with_context(|| {
            format!(
                "can't connect to {}, the address of the appliance in this container; from outside, use: podman exec bento bento health",
                self.address
            )
        })?;
        let (state, runtime) = (State::new(&self.state), Runtime::new(&self.runtime));
        let ready = runtime.ready();
        let done = ready
            .try_exists()
            .with_context(|| format!("can't check {}", ready.display()))?;
        ensure!(
            done,
            "sshd answers, but the first publication isn't done yet"
        );
        let locked_out = locked_out(&state, &runtime)?;
        writeln!(output, "healthy: {sshd}")?;
        if !locked_out.is_empty() {
            let names = first_few(locked_out.iter(), NAMED);
            writeln!(
                output,
                "locked out: {names} (see `bento status` for the reasons)"
            )?;
        }
        if self.verbose {
            let privileges =
                Privileges::of(APPLIANCE).context("can't read the appliance's privileges")?;
            writeln!(output, "{privileges}")?;
        }
        Ok(())
    }
}

/// The machines that can't log in, by sshd's rules for owners and modes.
///
/// # Errors
/// When no machine can.
fn locked_out(state: &State, runtime: &Runtime) -> Result<Vec<HostName>> {
    let shared = permissions::shared(state, runtime, Rule::check).problems;
    ensure!(
        shared.is_empty(),
        "no machine can log in: {}",
        lines(&shared).join("; ")
    );
    let accounts = Accounts::read(state).context("can't read the accounts")?;
    let mut locked_out = Vec::new();
    let mut problems = Vec::new();
    for (name, uid) in accounts.all() {
        let found =
            permissions::of_host(state, runtime, name, uid, Depth::Top, Rule::check).problems;
        if !found.is_empty() {
            locked_out.push(name.clone());
            problems.extend(found);
        }
    }
    let is_nobody_in = !locked_out.is_empty() && locked_out.len() == accounts.names().count();
    ensure!(
        !is_nobody_in,
        "no machine can log in: {}",
        lines(&problems).join("; ")
    );
    Ok(locked_out)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        health: HealthCommand,
    }

    // Issue 10, line 41.
    #[test]
    fn without_an_appliance_the_error_names_the_address_and_the_command() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let line = Line::try_parse_from(["health", "--address", &address]).unwrap();
        let error = format!("{:#}", line.health.run(&mut Vec::new()).unwrap_err());
        assert!(
            error.starts_with(&format!("can't connect to {address}, ")),
            "{error}"
        );
        assert!(
            error.contains("from outside, use: podman exec bento bento health: "),
            "{error}"
        );
        assert!(error.contains("refused"), "{error}");
    }
}
