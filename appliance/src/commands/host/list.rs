use std::io::Write;

use anyhow::bail;
use bento_protocol::HostName;
use clap::Args;
use serde::Serialize;

use super::super::fleet_folder::{FleetFolderOption, read_settings};
use crate::fleet;

/// List the machines of fleet.toml
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    folder: FleetFolderOption,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    name: HostName,
    source: String,
    keys: Vec<String>,
    paused: bool,
}

impl List {
    /// Prints a line a machine.
    ///
    /// # Errors
    /// When there is no fleet, or it can't be read.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let folder = self.folder.find()?;
        let reading = match fleet::read(&read_settings(&folder)?) {
            Ok(reading) => reading,
            Err(problems) => bail!(
                "{}",
                problems
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
        };
        let lines = reading.fleet.hosts.into_iter().map(|(name, host)| Line {
            name,
            source: host.source.to_string(),
            keys: host
                .keys
                .iter()
                .map(fleet::PublicKey::fingerprint)
                .collect(),
            paused: host.paused,
        });
        let lines: Vec<_> = lines.collect();
        if self.json {
            serde_json::to_writer_pretty(&mut *output, &lines)?;
            writeln!(output)?;
            return Ok(());
        }
        let width = |text: fn(&Line) -> &str| {
            lines
                .iter()
                .map(|line| text(line).len())
                .max()
                .unwrap_or_default()
        };
        let (names, sources) = (width(|line| line.name.as_str()), width(|line| &line.source));
        for line in &lines {
            let keys = if line.keys.is_empty() {
                "no key yet".to_owned()
            } else {
                line.keys.join(" ")
            };
            let paused = if line.paused { "  paused" } else { "" };
            writeln!(
                output,
                "{:names$}  {:sources$}  {keys}{paused}",
                line.name, line.source
            )?;
        }
        for problem in reading.problems {
            writeln!(output, "error: {problem}")?;
        }
        Ok(())
    }
}
