use std::time::Duration;

use bento_protocol::RunId;
use clap::Args;

use super::place::Place;
use crate::exit::Failure;
use crate::machine::rollback_timer;
use crate::run;

/// Go back to the system that ran before the last update.
#[derive(Debug, Args)]
#[command(
    after_help = "The appliance then shows the machine as drifted, and the generation isn't installed again until it \
                  changes, or until `bento-client update --retry`. Exit codes: 0 done, 2 usage or settings, 3 the rollback failed, 5 another run holds the lock."
)]
pub struct Rollback {
    /// Go back from the system of this run, unless it was confirmed
    #[arg(long, value_name = "RUN", value_parser = run_id, hide = true)]
    armed: Option<RunId>,
    /// Wait for this number of seconds before
    #[arg(long, value_name = "SECONDS", requires = "armed", hide = true)]
    after: Option<u64>,
    #[command(flatten)]
    place: Place,
}

fn run_id(text: &str) -> Result<RunId, String> {
    text.parse::<RunId>().map_err(|error| error.to_string())
}

impl Rollback {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let environment = self.place.environment()?;
        let Some(run) = self.armed else {
            return run::roll_back_by_hand(&environment);
        };
        if let Some(seconds) = self.after {
            rollback_timer::wait_detached(&environment.state, run, Duration::from_secs(seconds));
        }
        run::roll_back_armed(&environment, run)
    }
}
