use clap::Args;

use super::place::Place;
use crate::exit::Failure;
use crate::run;

/// Reboot, if the system that was installed wants that and its policy allows it now.
#[derive(Debug, Args)]
#[command(
    after_help = "The NixOS module runs it every few minutes; with nothing to do it ends at once, with 0."
)]
pub struct RebootIfNeeded {
    #[command(flatten)]
    place: Place,
}

impl RebootIfNeeded {
    /// Carries it out.
    pub fn run(&self) -> Result<(), Failure> {
        run::reboot_if_needed(&self.place.environment()?)
    }
}
