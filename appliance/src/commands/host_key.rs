use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::fleet::PublicKey;
use crate::state::State;

/// Print the appliance's public host key, for fleet.toml and for the machines
#[derive(Debug, Args)]
pub struct HostKey {
    /// What the appliance keeps
    #[arg(long, value_name = "DIR", default_value = "/state")]
    state: PathBuf,
}

impl HostKey {
    /// Prints the key in one line.
    ///
    /// # Errors
    /// When there is none, because the appliance never ran with this state.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let path = State::new(&self.state)
            .host_key()
            .with_added_extension("pub");
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} can't be read: run this in the container, `podman exec bento bento host-key`",
                path.display()
            )
        })?;
        let key: PublicKey = text
            .parse()
            .with_context(|| format!("{} isn't a public key", path.display()))?;
        writeln!(output, "{}", key.authorized_line())?;
        Ok(())
    }
}
