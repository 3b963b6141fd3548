use anyhow::anyhow;
use clap::Args;
use jiff::Timestamp;

use super::place::Place;
use crate::exit::{Because, ExitReason, Failure};
use crate::settings::Settings;
use crate::state::contact;

/// Fail if this machine has no key yet.
#[derive(Debug, Args)]
pub struct HasKey {
    #[command(flatten)]
    place: Place,
}

impl HasKey {
    /// Runs the command. If it fails, systemd skips the update without a failed unit. So it succeeds if the settings or
    /// the state are unusable, or the key of an updated machine is gone: then the update fails, visibly.
    pub fn run(&self) -> Result<(), Failure> {
        let (Ok(state), Ok(settings)) = (self.place.state(), Settings::read(&self.place.config))
        else {
            return Ok(());
        };
        if settings.identity_file.exists() || state.installed().exists() {
            return Ok(());
        }
        let error = anyhow!(
            "this machine has no key yet, and so isn't updated: create one with `ssh-keygen -t ed25519 -N '' -f {file}`, \
             and enrol it with `bento host add {name}` and the content of {file}.pub",
            file = settings.identity_file.display(),
            name = settings.name,
        );
        let remembered = state
            .prepare()
            .and_then(|()| contact::failed(&state, &error.to_string(), Timestamp::now()));
        remembered.because(ExitReason::Usage)?;
        Err(error).because(ExitReason::Usage)
    }
}
