use clap::Args;

use super::place::Place;
use crate::exit::Failure;
use crate::run;

/// Report the current state of this machine, even if nothing has changed since the last report.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 delivered, 1 there is nothing to report yet, 2 usage or settings, 4 no usable server, or \
                  the report waits for the next run, 5 another run holds the lock."
)]
pub struct Report {
    #[command(flatten)]
    place: Place,
}

impl Report {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        run::report(&self.place.environment()?)
    }
}
