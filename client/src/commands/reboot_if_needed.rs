use clap::Args;

use super::place::Place;
use crate::exit::Failure;
use crate::run;

/// Reboot, if the installed system needs it and its policy allows it now.
#[derive(Debug, Args)]
#[command(
    after_help = "The NixOS module runs it every few minutes; if there is nothing to do, it exits with 0 at once."
)]
pub struct RebootIfNeeded {
    #[command(flatten)]
    place: Place,
}

impl RebootIfNeeded {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        run::reboot_if_needed(&self.place.environment()?)
    }
}
