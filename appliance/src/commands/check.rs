use std::io::Write;
use std::path::Path;

use bento_protocol::{GenerationId, HostName, Manifest};
use clap::Args;
use serde::Serialize;

use super::fleet_folder::FleetFolderOption;
use crate::forecast::{Forecast, Prospect};
use crate::problem::Problem;
use crate::terminal::{Colour, Terminal, paint};

/// Find everything that the appliance would find wrong with the fleet, without Nix and without publishing
#[derive(Debug, Args)]
pub struct Check {
    /// Only these machines
    names: Vec<HostName>,
    #[command(flatten)]
    folder: FleetFolderOption,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What would become of a fleet.
#[derive(Debug, Serialize)]
struct Findings {
    format: bento_protocol::Format,
    hosts: Vec<Finding>,
    problems: Vec<Problem>,
}

/// What would be published for one machine.
#[derive(Debug, Serialize)]
struct Finding {
    name: HostName,
    /// None where a problem stops it.
    generation: Option<GenerationId>,
    files: usize,
    /// Of all files together.
    bytes: u64,
    keys: usize,
}

impl Check {
    /// Checks the fleet. True when nothing is wrong.
    ///
    /// # Errors
    /// When there is no fleet, or no machine of a given name.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<bool> {
        let folder = self.folder.find()?;
        let findings = self.look(&folder)?;
        if self.json {
            serde_json::to_writer_pretty(&mut *output, &findings)?;
            writeln!(output)?;
        } else {
            print(&findings, output)?;
        }
        Ok(findings.problems.is_empty())
    }

    fn look(&self, folder: &Path) -> anyhow::Result<Findings> {
        let forecast = Forecast::make(folder, &self.names)?;
        let hosts = forecast.fleet.as_ref().map(|fleet| &fleet.hosts);
        let keys = |name: &HostName| hosts?.get(name).map(|host| host.keys.len());
        let finding = |(name, prospect): (&HostName, &Option<Prospect>)| {
            Finding::new(name, keys(name).unwrap_or_default(), prospect.as_ref())
        };
        Ok(Findings {
            format: bento_protocol::Format,
            hosts: forecast.machines.iter().map(finding).collect(),
            problems: forecast.problems,
        })
    }
}

impl Finding {
    fn new(name: &HostName, keys: usize, prospect: Option<&Prospect>) -> Self {
        let manifest = prospect.map(|prospect| &prospect.manifest);
        let files = manifest.map_or(&[][..], Manifest::files);
        Finding {
            name: name.clone(),
            generation: manifest.map(Manifest::generation),
            files: files.len(),
            bytes: files.iter().map(|file| file.size).sum(),
            keys,
        }
    }
}

fn print(findings: &Findings, output: &mut dyn Write) -> std::io::Result<()> {
    let width = findings
        .hosts
        .iter()
        .map(|finding| finding.name.as_str().len())
        .max()
        .unwrap_or_default();
    for finding in &findings.hosts {
        write!(output, "{:width$}  ", finding.name)?;
        match finding.generation {
            Some(id) => write!(
                output,
                "generation {}  {} files, {} bytes",
                id.short(),
                finding.files,
                finding.bytes
            )?,
            None => write!(output, "can't be published")?,
        }
        let note = if finding.keys == 0 {
            "  (no key yet: `bento host add` enrols it)"
        } else {
            ""
        };
        writeln!(output, "{note}")?;
    }
    let error = paint("error:", Colour::Red, Terminal::of_output());
    for problem in &findings.problems {
        writeln!(output, "{error} {problem}")?;
    }
    match findings.problems.len() {
        0 => writeln!(output, "Nothing is wrong."),
        1 => writeln!(output, "1 thing is wrong."),
        count => writeln!(output, "{count} things are wrong."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        check: Check,
    }

    fn check(folder: &Path, arguments: &[&str]) -> (bool, String) {
        let line = ["check", "--fleet", folder.to_str().unwrap()]
            .into_iter()
            .chain(arguments.iter().copied());
        let mut output = Vec::new();
        let good = Line::parse_from(line).check.run(&mut output).unwrap();
        (good, String::from_utf8(output).unwrap())
    }

    #[test]
    fn everything_is_told_at_once_and_the_rest_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let fleet =
            "[server]\naddress = \"x\"\n[hosts.good]\n[hosts.missing]\n[hosts.odd]\nkyes = []\n";
        std::fs::write(folder.path().join("fleet.toml"), fleet).unwrap();
        std::fs::create_dir_all(folder.path().join("hosts/good")).unwrap();
        std::fs::write(folder.path().join("hosts/good/flake.nix"), "{}").unwrap();
        let (good, text) = check(folder.path(), &[]);
        assert!(!good);
        assert!(text.contains("good     generation "), "{text}");
        assert!(text.contains("missing  can't be published"), "{text}");
        assert!(
            text.contains("error: hosts/missing: missing: isn't there"),
            "{text}"
        );
        assert!(text.contains("error: fleet.toml:6: odd: "), "{text}");
        assert!(text.ends_with("2 things are wrong.\n"), "{text}");
        let (good, text) = check(folder.path(), &["good", "--json"]);
        assert!(good);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["hosts"][0]["files"], 1);
    }
}
