use std::io::Write;

use bento_protocol::{Format, HostName};
use clap::Args;
use serde::Serialize;

use super::super::fleet_folder::FleetFolderOption;
use super::settings_file::SettingsFile;
use crate::fleet::{Host, PublicKey};
use crate::problem::Problem;
use crate::terminal::{Colour, Terminal, paint};

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
struct Listing {
    format: Format,
    hosts: Vec<Line>,
    /// What is wrong with those that aren't among them.
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Line {
    name: HostName,
    source: String,
    /// Their fingerprints.
    keys: Vec<String>,
    paused: bool,
}

impl List {
    /// Prints a line a machine.
    ///
    /// # Errors
    /// When there is no fleet, or it can't be read.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let reading = SettingsFile::open(&self.folder.find()?)?.reading()?;
        let listing = Listing {
            format: Format,
            hosts: reading.fleet.hosts.into_iter().map(Line::new).collect(),
            problems: reading.problems,
        };
        if self.json {
            serde_json::to_writer_pretty(&mut *output, &listing)?;
            writeln!(output)?;
            return Ok(());
        }
        listing.print(output)
    }
}

impl Line {
    fn new((name, host): (HostName, Host)) -> Self {
        Line {
            name,
            source: host.source.to_string(),
            keys: host.keys.iter().map(PublicKey::fingerprint).collect(),
            paused: host.paused,
        }
    }
}

impl Listing {
    fn print(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let width = |text: fn(&Line) -> &str| {
            let widths = self.hosts.iter().map(|line| text(line).chars().count());
            widths.max().unwrap_or_default()
        };
        let (names, sources) = (width(|line| line.name.as_str()), width(|line| &line.source));
        for line in &self.hosts {
            let keys = if line.keys.is_empty() {
                "no key yet".to_owned()
            } else {
                line.keys.join(" ")
            };
            let paused = if line.paused { "  paused" } else { "" };
            let (name, source) = (&line.name, &line.source);
            writeln!(output, "{name:names$}  {source:sources$}  {keys}{paused}")?;
        }
        let error = paint("error:", Colour::Red, Terminal::of_output());
        for problem in &self.problems {
            writeln!(output, "{error} {problem}")?;
        }
        Ok(())
    }
}
