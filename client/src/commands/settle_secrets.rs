use clap::Args;

use super::place::Place;
use crate::exit::{Because, ExitReason, Failure};
use crate::run;

/// Let the secrets be those of the system that was booted.
#[derive(Debug, Args)]
pub struct SettleSecrets {
    #[command(flatten)]
    place: Place,
}

impl SettleSecrets {
    /// Carries it out.
    pub fn run(&self) -> Result<(), Failure> {
        run::settle_secrets(&self.place.site()?).because(ExitReason::RebuildFailed)
    }
}
