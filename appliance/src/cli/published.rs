use std::io::Write;

use bento_protocol::HostName;
use clap::Args;

use super::remote::ApplianceOption;

/// Print as JSON what is published: the question that `bento check` and `bento deploy` ask an appliance
#[derive(Debug, Args)]
pub struct PublishedCommand {
    /// The machines whose manifests are wanted as well
    #[arg(value_name = "NAME")]
    names: Vec<HostName>,
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl PublishedCommand {
    /// Prints it.
    ///
    /// # Errors
    /// When the appliance can't be asked.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let published = self.appliance.find()?.published(&self.names)?;
        serde_json::to_writer(&mut *output, &published)?;
        writeln!(output)?;
        Ok(())
    }
}
