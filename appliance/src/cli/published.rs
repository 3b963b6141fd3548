use std::io::Write;

use bento_protocol::HostName;
use clap::Args;

use super::remote::ApplianceOption;

/// Print the published generations as JSON, for `bento check` and `bento deploy`
#[derive(Debug, Args)]
pub struct PublishedCommand {
    /// Also print the manifests of these machines
    #[arg(value_name = "NAME")]
    names: Vec<HostName>,
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl PublishedCommand {
    /// Prints the document.
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
