use std::path::PathBuf;

use clap::Args;

use crate::environment::Environment;
use crate::exit::{Because, ExitReason, Failure};
use crate::machine::Machine;
use crate::settings::SETTINGS_FILE;
use crate::state::{STATE_FOLDER, State};

/// Paths that the client works with.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The settings file
    #[arg(long, value_name = "FILE", default_value = SETTINGS_FILE)]
    pub(super) config: PathBuf,
    /// The folder for the client's state: staged generations, secrets, undelivered reports
    #[arg(long, value_name = "DIR", default_value = STATE_FOLDER)]
    state: PathBuf,
    /// The root of the machine to update, with /run/current-system and the system profile: for a NixOS in a folder, and
    /// for tests; the place of the Nix store is set by Nix' own variables
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

impl Place {
    pub(super) fn state(&self) -> Result<State, Failure> {
        State::new(&self.state).because(ExitReason::Usage)
    }

    pub(super) fn machine(&self) -> Machine {
        Machine::new(&self.root)
    }

    pub(super) fn environment(&self) -> Result<Environment, Failure> {
        let arguments = [
            ("--config", &self.config),
            ("--state", &self.state),
            ("--root", &self.root),
        ];
        Ok(Environment {
            config: self.config.clone(),
            state: self.state()?,
            machine: self.machine(),
            arguments: arguments
                .into_iter()
                .flat_map(|(name, path)| [name.to_owned(), path.display().to_string()])
                .collect(),
        })
    }
}
