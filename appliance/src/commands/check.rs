use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, bail};
use bento_protocol::{GenerationId, HostName};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::fleet_folder::{FleetFolderOption, read_settings};
use crate::fleet::{self, Host};
use crate::generation::{self, DigestCache, ReadError};
use crate::problem::Problem;
use crate::tree::{FleetFolder, HostTree};

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
        let text = read_settings(folder)?;
        let opened = FleetFolder::open(folder)
            .with_context(|| format!("{} can't be read", folder.display()))?;
        let mut findings = Findings {
            format: bento_protocol::Format,
            hosts: Vec::new(),
            problems: Vec::new(),
        };
        let reading = match fleet::read(&text) {
            Ok(reading) => reading,
            Err(problems) => {
                findings.problems = problems;
                return Ok(findings);
            }
        };
        let is_known = |name: &&HostName| {
            reading.fleet.hosts.contains_key(*name) || reading.faulty.contains(*name)
        };
        if let Some(unknown) = self.names.iter().find(|name| !is_known(name)) {
            bail!("the fleet has no machine {unknown}: `bento host list` shows which there are");
        }
        let is_asked = |name: &HostName| self.names.is_empty() || self.names.contains(name);
        findings.problems = reading.problems;
        findings
            .problems
            .retain(|problem| problem.host.as_ref().is_none_or(is_asked));
        let mut digests = DigestCache::default();
        for (name, host) in reading
            .fleet
            .hosts
            .iter()
            .filter(|(name, _)| is_asked(name))
        {
            match check_host(&opened, name, host, &mut digests) {
                Ok(finding) => findings.hosts.push(finding),
                Err(problems) => {
                    let keys = host.keys.len();
                    findings.hosts.push(Finding {
                        name: name.clone(),
                        generation: None,
                        files: 0,
                        bytes: 0,
                        keys,
                    });
                    findings.problems.extend(problems);
                }
            }
        }
        Ok(findings)
    }
}

fn check_host(
    folder: &FleetFolder,
    name: &HostName,
    host: &Host,
    digests: &mut DigestCache,
) -> Result<Finding, Vec<Problem>> {
    let tree = HostTree::walk(folder, name, host)?;
    let manifest = generation::manifest(name, host, &tree, folder, digests, Timestamp::now());
    let manifest = manifest.and_then(|manifest| {
        generation::require_size(&manifest, host)?;
        Ok(manifest)
    });
    let manifest = manifest.map_err(|error| match error {
        ReadError::Unreadable(problem) => vec![problem.of(name)],
        ReadError::Changed | ReadError::Output(_) => {
            let advice = "wait until nobody writes there, and check again";
            vec![
                Problem::new(host.source.to_string(), "changed while it was read", advice).of(name),
            ]
        }
    })?;
    let bytes = manifest.files().iter().map(|file| file.size).sum();
    let (files, keys) = (manifest.files().len(), host.keys.len());
    Ok(Finding {
        name: name.clone(),
        generation: Some(manifest.generation()),
        files,
        bytes,
        keys,
    })
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
    let red = |text: &str| match std::io::stdout().is_terminal() {
        true => format!("\u{1b}[31m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    for problem in &findings.problems {
        writeln!(output, "{} {problem}", red("error:"))?;
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
