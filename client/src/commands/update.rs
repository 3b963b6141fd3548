use clap::Args;

use super::place::Place;
use crate::exit::{Because, ExitReason, Failure};
use crate::run;
use crate::settings::Settings;

/// Ask for a new generation, build it, switch to it, and report.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done or nothing to do, 1 the rebuild failed, 2 usage or settings, \
                        3 rolled back, 4 no usable server, 5 another run holds the lock."
)]
pub struct Update {
    #[command(flatten)]
    place: Place,
}

impl Update {
    /// Carries it out.
    pub fn run(&self) -> Result<(), Failure> {
        let settings = Settings::read(&self.place.config).because(ExitReason::Usage)?;
        run::update(&settings, &self.place.state()?, &self.place.machine())
    }
}
