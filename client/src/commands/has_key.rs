use anyhow::anyhow;
use clap::Args;
use jiff::Timestamp;

use super::place::Place;
use crate::exit::{Because, ExitReason, Failure};
use crate::settings::Settings;
use crate::state::contact;

/// Succeed unless this machine still waits for its first key.
#[derive(Debug, Args)]
pub struct HasKey {
    #[command(flatten)]
    place: Place,
}

impl HasKey {
    /// Carries it out. A key that is gone from a machine which was updated before is a fault, as are settings or a state
    /// folder that can't be used: they are left to the update, which fails for them. Where this fails, systemd skips the
    /// update, and nobody notices.
    pub fn run(&self) -> Result<(), Failure> {
        let (Ok(state), Ok(settings)) = (self.place.state(), Settings::read(&self.place.config))
        else {
            return Ok(());
        };
        if settings.identity_file.exists() || state.installed().exists() {
            return Ok(());
        }
        let error = anyhow!(
            "this machine has no key yet, and so isn't updated: `ssh-keygen -t ed25519 -N '' -f {file}` makes one, and \
             `bento host add {name}` with what {file}.pub has then enrols it on the appliance's side",
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
