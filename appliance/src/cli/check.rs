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

/// Check the fleet for errors, without Nix and without publishing
///
/// Also prints a preview: new generations, affected machines, files that machines share, and warnings about likely
/// failures after the publication. The exit code is 1 if there are errors, or, with --strict, warnings.
#[derive(Debug, Args)]
pub struct CheckCommand {
    /// Check only these machines
    #[arg(value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    #[command(flatten)]
    appliance: ApplianceOption,
    /// Don't ask the appliance for the published generations
    #[arg(long)]
    offline: bool,
    /// Also list the files that would change
    #[arg(long, short, conflicts_with = "quiet")]
    verbose: bool,
    /// Print only errors and warnings
    #[arg(long, short)]
    quiet: bool,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CheckCommand {
    /// Checks the fleet; returns whether it passes.
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
                // While the file has errors, no machine is removed.
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

    /// The changes to the published generations; none if the appliance isn't asked.
    fn changes(&self, preview: &Preview) -> Option<anyhow::Result<FleetChanges>> {
        let server = preview.fleet.as_ref().map(|fleet| &fleet.server)?;
        if self.offline || (server.admin.is_empty() && !self.appliance.is_here()) {
            return None;
        }
        let appliance = self.appliance.find();
        Some(appliance.and_then(|appliance| appliance.changes(preview)))
    }
}

/// Prints the preview and the problems of a fleet, without asking an appliance.
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

/// A warning that a machine would be removed, perhaps by mistake.
fn removal(name: &HostName) -> Problem {
    let what = "would be removed: its account and its generation at once, its reports after a week";
    let advice = "if it was renamed, add renamed_from, or use `bento host rename`";
    Problem::new(FILE_NAME, what, advice).of(name)
}

#[cfg(test)]
mod tests;
