use clap::Args;

use super::place::Place;
use crate::exit::Failure;
use crate::run;
use crate::update::UpdateOptions;

/// Poll for a new generation, build it, switch to it, and report the result.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done or nothing to do, 1 the rebuild failed or is known to fail, 2 usage or settings, \
                  3 rolled back, 4 no usable server, 5 another run holds the lock, 6 the server's data doesn't verify."
)]
pub struct Update {
    /// Retry a generation that has failed or was rolled back
    #[arg(long)]
    retry: bool,
    /// Accept a system that has no timer for the client, or no settings for this machine
    #[arg(long)]
    force: bool,
    /// Activate the new system at the next boot
    #[arg(long)]
    at_boot: bool,
    #[command(flatten)]
    place: Place,
}

impl Update {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let options = UpdateOptions {
            retry: self.retry,
            at_boot: self.at_boot,
        };
        run::update(&self.place.environment()?, options, self.force)
    }
}
