mod document;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use bento_protocol::HostName;
use clap::Args;

use super::completion;
use super::remote::ApplianceOption;
use crate::check::{self, large, shared};
use crate::fleet::FILE_NAME;
use crate::preview::Preview;
use crate::preview::change::FleetChanges;
use crate::problem::Problem;
use document::{CheckDocument, Detail};

/// Find everything that the appliance would find wrong with the fleet, without Nix and without publishing
///
/// Also said are: what would be published, what would be different for whom, what machines see of each other, and, as
/// warnings, what would fail or surprise once it is published. The exit code is 1 if anything is wrong; warnings don't
/// count unless --strict is given.
#[derive(Debug, Args)]
pub struct CheckCommand {
    /// Only these machines
    #[arg(value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    #[command(flatten)]
    appliance: ApplianceOption,
    /// Don't ask the appliance what it publishes now
    #[arg(long)]
    offline: bool,
    /// Also name the files that would be different
    #[arg(long, short, conflicts_with = "quiet")]
    verbose: bool,
    /// Print only errors and warnings, and nothing if there are none
    #[arg(long, short)]
    quiet: bool,
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CheckCommand {
    /// Checks the fleet. True when nothing is wrong.
    ///
    /// # Errors
    /// When there is no fleet, or no machine of a given name.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<bool> {
        let folder = self.appliance.folder()?;
        let document = self.document(&folder)?;
        if self.json {
            serde_json::to_writer_pretty(&mut *output, &document)?;
            writeln!(output)?;
        } else {
            let detail = match (self.quiet, self.verbose) {
                (true, _) => Detail::Problems,
                (_, true) => Detail::Files,
                _ => Detail::Machines,
            };
            document.print(detail, output)?;
        }
        let passes = document.warnings.is_empty() || !self.strict;
        Ok(document.problems.is_empty() && passes)
    }

    fn document(&self, folder: &Path) -> anyhow::Result<CheckDocument> {
        let mut preview = Preview::make(folder, &self.names)?;
        let check::Findings {
            errors,
            mut warnings,
        } = check::Findings::of(folder, &preview);
        let shared = shared(&preview);
        let mut published = BTreeMap::new();
        let (changes, unasked) = match self.changes(&preview) {
            None => (None, None),
            Some(Ok(changes)) => {
                // As long as the file has faults, nobody is removed.
                let is_faulty = |problem: &Problem| problem.place.starts_with(FILE_NAME);
                if !preview.problems.iter().any(is_faulty) {
                    warnings.extend(changes.gone.iter().map(removal));
                }
                let sizes = changes.machines.iter();
                published.extend(sizes.map(|change| (change.machine.clone(), change.before)));
                (Some(changes.machines), None)
            }
            Some(Err(error)) => (None, Some(format!("{error:#}"))),
        };
        warnings.extend(large(&preview, &published));
        preview.problems.extend(errors);
        let warnings = warnings.into_iter().collect();
        Ok(CheckDocument::new(
            preview, changes, unasked, shared, warnings,
        ))
    }

    /// What would be different for whom; none if that isn't asked.
    fn changes(&self, preview: &Preview) -> Option<anyhow::Result<FleetChanges>> {
        let server = preview.fleet.as_ref().map(|fleet| &fleet.server)?;
        if self.offline || (server.admin.is_empty() && !self.appliance.is_here()) {
            return None;
        }
        let appliance = self.appliance.find();
        Some(appliance.and_then(|appliance| appliance.changes(preview)))
    }
}

/// Prints what would be published of a fleet, and what is wrong with it, without asking an appliance.
///
/// # Errors
/// When there is no fleet.
pub(super) fn preview(folder: &Path, output: &mut dyn Write) -> anyhow::Result<()> {
    let mut preview = Preview::make(folder, &[])?;
    let check::Findings { errors, warnings } = check::Findings::of(folder, &preview);
    let shared = shared(&preview);
    preview.problems.extend(errors);
    let warnings = warnings.into_iter().collect();
    let document = CheckDocument::new(preview, None, None, shared, warnings);
    Ok(document.print(Detail::Machines, output)?)
}

/// That a machine would be removed, which may be a slip.
fn removal(name: &HostName) -> Problem {
    let what =
        "isn't there any more: its account and its generation go at once, its reports in a week";
    let advice =
        "if it has another name now, say renamed_from there, or let `bento host rename` do that";
    Problem::new(FILE_NAME, what, advice).of(name)
}

#[cfg(test)]
mod tests;
