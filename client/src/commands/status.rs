pub mod overview;

use clap::Args;

use super::place::Place;
use crate::commands::status::overview::Overview;
use crate::console;
use crate::exit::{Because, ExitReason, Failure};

/// Show the systems of this machine, the run in progress, and the next step.
#[derive(Debug, Args)]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Status {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let environment = self.place.environment()?;
        let overview =
            Overview::of(&environment.state, &environment.machine).because(ExitReason::Usage)?;
        let text = match self.json {
            true => serde_json::to_string(&overview).because(ExitReason::Usage)? + "\n",
            false => overview.to_string(),
        };
        console::print(&text).because(ExitReason::Usage)
    }
}
