//! `bento health`: whether the appliance in this container serves machines.

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

/// How long sshd may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// How many machines are named that can't log in.
const NAMED: usize = 5;
/// The appliance is the first process of its container.
const APPLIANCE: u32 = 1;

/// Tells whether the appliance in this container serves machines, for HealthCmd=
///
/// It begins an SSH connection as a machine does, and looks at each machine's chroot and keys by sshd's own rules. Exit
/// code 0 if sshd answers, the first publication is done, and machines can log in, otherwise 1, with one line that says
/// why.
#[derive(Debug, Args)]
pub struct HealthCommand {
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

    /// Where the appliance keeps what persists
    #[arg(long, value_name = "DIR", default_value = "/state", hide = true)]
    state: PathBuf,
}

impl HealthCommand {
    /// Prints one line if all is well.
    ///
    /// # Errors
    /// When the appliance doesn't serve machines.
    pub fn run(&self, output: &mut dyn Write) -> Result<()> {
        let sshd = handshake(self.address, LIMIT).with_context(|| {
            format!(
                "asked {}, where the appliance of this container listens; from outside: podman exec bento bento health",
                self.address
            )
        })?;
        let (state, runtime) = (State::new(&self.state), Runtime::new(&self.runtime));
        let ready = runtime.ready();
        let done = ready
            .try_exists()
            .with_context(|| format!("can't look for {}", ready.display()))?;
        ensure!(
            done,
            "sshd answers, but the first publication isn't done yet"
        );
        let locked_out = locked_out(&state, &runtime)?;
        writeln!(output, "healthy: {sshd}")?;
        if !locked_out.is_empty() {
            let names = first_few(locked_out.iter(), NAMED);
            writeln!(output, "locked out: {names} (`bento status` says why)")?;
        }
        if self.verbose {
            let privileges =
                Privileges::of(APPLIANCE).context("can't read the appliance's privileges")?;
            writeln!(output, "{privileges}")?;
        }
        Ok(())
    }
}

/// The machines that can't log in, by the rules of sshd and of what each may read.
///
/// # Errors
/// When nobody can.
fn locked_out(state: &State, runtime: &Runtime) -> Result<Vec<HostName>> {
    let shared = permissions::shared(state, runtime, Rule::check).problems;
    ensure!(
        shared.is_empty(),
        "no machine can log in: {}",
        lines(&shared).join("; ")
    );
    let accounts = Accounts::read(state).context("the accounts can't be read")?;
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
    fn where_no_appliance_listens_it_says_what_it_asked_and_where_to_ask() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let line = Line::try_parse_from(["health", "--address", &address]).unwrap();
        let told = format!("{:#}", line.health.run(&mut Vec::new()).unwrap_err());
        assert!(told.starts_with(&format!("asked {address}, ")), "{told}");
        assert!(
            told.contains("from outside: podman exec bento bento health: "),
            "{told}"
        );
        assert!(told.contains("refused"), "{told}");
    }
}
