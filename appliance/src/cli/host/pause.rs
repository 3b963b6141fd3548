use std::io::Write;

use bento_protocol::HostName;
use clap::Args;

use super::super::completion;
use super::super::fleet_folder::FleetFolderOption;
use super::settings_file::SettingsFile;
use crate::fleet::edit;
use crate::text::list::sentence;

/// Stop publishing for machines: they keep their current generation
#[derive(Debug, Args)]
pub struct PauseCommand {
    #[command(flatten)]
    machines: Machines,
}

/// Resume publishing for machines
#[derive(Debug, Args)]
pub struct ResumeCommand {
    #[command(flatten)]
    machines: Machines,
}

#[derive(Debug, Args)]
struct Machines {
    /// The machines
    #[arg(required = true, value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    #[command(flatten)]
    folder: FleetFolderOption,
}

impl PauseCommand {
    /// Edits `fleet.toml`.
    ///
    /// # Errors
    /// When there is no such machine, or the file can't be edited.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        self.machines.set_paused(true)?;
        let names = &self.machines.names;
        let (keep, its) = if names.len() == 1 {
            ("keeps", "its")
        } else {
            ("keep", "their")
        };
        writeln!(
            output,
            "{} {keep} {its} current generation until `bento host resume`.",
            sentence(names)
        )?;
        Ok(())
    }
}

impl ResumeCommand {
    /// Edits `fleet.toml`.
    ///
    /// # Errors
    /// When there is no such machine, or the file can't be edited.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        self.machines.set_paused(false)?;
        let names = &self.machines.names;
        writeln!(output, "Resumed: {}.", sentence(names))?;
        Ok(())
    }
}

impl Machines {
    fn set_paused(&self, paused: bool) -> anyhow::Result<()> {
        let file = SettingsFile::open(&self.folder.find()?)?;
        file.replace(edit::set_paused(file.text(), &self.names, paused))?;
        Ok(())
    }
}
