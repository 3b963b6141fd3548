//! `bento diff`: the changes for each machine.

use std::io::Write;

use bento_protocol::{GenerationId, HostName, SystemPath};
use clap::Args;

use super::completion;
use super::{Appliance, ApplianceOption};
use crate::diff::{Diffs, packages, rendering};
use crate::release::{Build, FolderRecord};
use crate::scan::FleetFolder;
use crate::text::sanitise;
use crate::text::terminal::Terminal;

/// Show the changes for each machine between the generation that it runs and the published one
#[derive(Debug, Args)]
pub struct DiffCommand {
    /// Show only these machines
    #[arg(value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    /// Print JSON, including the contents of files
    #[arg(long)]
    json: bool,
    /// Don't ask Nix for changed packages
    #[arg(long)]
    no_packages: bool,
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl DiffCommand {
    /// Prints the changes.
    ///
    /// # Errors
    /// When the appliance can't be asked, or the fleet has no machine of a given name.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let diffs = match self.appliance.find()? {
            Appliance::Here(state, _) => Diffs::read(&state, &self.names)?,
            Appliance::Remote(remote) => {
                let names = self.names.iter().map(HostName::as_str);
                remote.read_json(["diff", "--json"].into_iter().chain(names))?
            }
        };
        if self.json {
            let json = serde_json::to_string(&diffs)?;
            writeln!(output, "{}", sanitise::plain_json(&json))?;
            return Ok(());
        }
        let terminal = Terminal::of_output();
        output.write_all(rendering::render(&diffs, terminal).as_bytes())?;
        if !self.no_packages {
            // Nix takes a while; show the rest before.
            output.flush()?;
            let fleet = self.appliance.folder().ok();
            let fleet = fleet.and_then(|folder| FleetFolder::open(&folder).ok());
            let built = |name: &HostName, id| built(fleet.as_ref()?, name, id);
            let packages = packages::compare(&diffs, &built, terminal);
            output.write_all(packages.as_bytes())?;
        }
        Ok(())
    }
}

/// The recorded system of a generation in this fleet folder; none if the record can't be read.
fn built(fleet: &FleetFolder, name: &HostName, generation: GenerationId) -> Option<SystemPath> {
    let build = Build::of(fleet, name).ok()??;
    (build.generation == generation).then_some(build.system)
}
