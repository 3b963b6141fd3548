use std::io::Write;

use bento_protocol::{Format, HostName};
use clap::Args;
use serde::Serialize;

use super::super::fleet_folder::FleetFolderOption;
use super::settings_file::SettingsFile;
use crate::fleet::{Host, PublicKey};
use crate::problem::Problem;
use crate::text::terminal::{Colour, Terminal, paint};

/// List the machines of fleet.toml
#[derive(Debug, Args)]
pub struct ListCommand {
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
    /// The problems of machines with unusable settings.
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Line {
    name: HostName,
    source: String,
    /// The fingerprints of its keys.
    keys: Vec<String>,
    paused: bool,
}

impl ListCommand {
    /// Prints one line for each machine.
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

/// The headings; as in `bento status`, they are printed also into a pipe.
const NAME: &str = "MACHINE";
const SOURCE: &str = "SOURCE";

impl Listing {
    fn print(&self, output: &mut dyn Write) -> anyhow::Result<()> {
        let width = |heading: &str, text: fn(&Line) -> &str| {
            let widths = self.hosts.iter().map(|line| text(line).chars().count());
            widths.max().unwrap_or_default().max(heading.len())
        };
        let names = width(NAME, |line| line.name.as_str());
        let sources = width(SOURCE, |line| &line.source);
        if self.hosts.is_empty() && self.problems.is_empty() {
            writeln!(
                output,
                "The fleet has no machines yet: add one with `bento host add`."
            )?;
        } else if !self.hosts.is_empty() {
            writeln!(output, "{NAME:names$}  {SOURCE:sources$}  KEYS")?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet;

    fn listed(hosts: &str) -> String {
        let text = format!("[server]\naddress = \"x\"\n{hosts}");
        let reading = fleet::read(&text).unwrap();
        let listing = Listing {
            format: Format,
            hosts: reading.fleet.hosts.into_iter().map(Line::new).collect(),
            problems: reading.problems,
        };
        let mut output = Vec::new();
        listing.print(&mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn machines_are_listed_below_headings() {
        let text = listed("[hosts.a]\npaused = true\n[hosts.b]\nsource = \"hosts/desks\"\n");
        let expected = "\
MACHINE  SOURCE       KEYS
a        hosts/a      no key yet  paused
b        hosts/desks  no key yet
";
        assert_eq!(text, expected);
        assert!(listed("").starts_with("The fleet has no machines yet"));
    }
}
