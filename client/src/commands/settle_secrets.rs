use std::path::PathBuf;

use clap::Args;

use super::place::Place;
use crate::exit::{Because, ExitReason, Failure};
use crate::run;

/// Switch the secrets to those of the booted system.
#[derive(Debug, Args)]
pub struct SettleSecrets {
    /// The system that is being booted, before it runs
    #[arg(long, value_name = "PATH")]
    system: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl SettleSecrets {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let environment = self.place.environment()?;
        run::switch_secrets_of_boot(&environment, self.system.as_deref())
            .because(ExitReason::RebuildFailed)
    }
}
