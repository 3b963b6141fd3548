//! `bento status`: what is known of every machine.

use std::io::Write;
use std::path::PathBuf;

use bento_protocol::HostName;
use clap::Args;
use jiff::Timestamp;

use crate::state::{Runtime, State};
use crate::status::{self, table};
use crate::terminal::Terminal;

/// Print which generation each machine finds, and whether it runs that
#[derive(Debug, Args)]
pub struct Status {
    /// Only these machines
    #[arg(value_name = "NAME")]
    names: Vec<HostName>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// What the appliance keeps
    #[arg(long, value_name = "DIR", default_value = "/state")]
    state: PathBuf,
    /// Where the appliance keeps what lives as long as the container
    #[arg(long, value_name = "DIR", default_value = "/run/bento", hide = true)]
    runtime: PathBuf,
}

impl Status {
    /// Prints the status of the fleet.
    ///
    /// # Errors
    /// When there is no state, or no machine of a given name.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let (state, runtime) = (State::new(&self.state), Runtime::new(&self.runtime));
        let mut status = status::Status::read(&state, &runtime, Timestamp::now())?;
        status.retain(&self.names)?;
        if self.json {
            writeln!(output, "{}", serde_json::to_string(&status)?)?;
        } else {
            output.write_all(table::render(&status, Terminal::of_output()).as_bytes())?;
        }
        Ok(())
    }
}
