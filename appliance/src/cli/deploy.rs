use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anyhow::bail;
use bento_protocol::{Format, GenerationId, HostName};
use clap::Args;
use jiff::Timestamp;

use self::changes::DeployChange;
use super::completion;
use super::fleet_folder::unwritable;
use super::prompt::ConfirmOption;
use super::remote::ApplianceOption;
use crate::build;
use crate::build::{BuildOptions, BuildOutcome, Screen};
use crate::check::Findings;
use crate::fleet::{FILE_NAME, Fleet, When};
use crate::preview::Preview;
use crate::problem::lines;
use crate::release::{Approval, Build, FolderRecord, path};
use crate::text::terminal::{Colour, Terminal, paint};

mod changes;

/// Check and build the changes of the fleet folder, show them, and approve them
#[derive(Debug, Args)]
pub struct DeployCommand {
    /// Deploy only these machines
    #[arg(value_name = "NAME", add = completion::machines())]
    names: Vec<HostName>,
    /// Don't build
    #[arg(long)]
    no_build: bool,
    /// Only show the changes; don't build, don't approve
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: ConfirmOption,
    #[command(flatten)]
    appliance: ApplianceOption,
}

/// A running deployment.
struct Deployment<'a> {
    folder: &'a Path,
    fleet: Fleet,
    preview: Preview,
    /// The changes of the machines that are still to be deployed.
    changes: Vec<DeployChange>,
    /// Whether everything has succeeded so far.
    is_good: bool,
    output: &'a mut dyn Write,
}

impl DeployCommand {
    /// Deploys; returns whether everything succeeded.
    ///
    /// # Errors
    /// When there is no fleet, or no machine of a given name; when no terminal is there for the prompt; or when the
    /// fleet folder changes in the meantime or can't be written.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<bool> {
        let folder = self.appliance.folder()?;
        let preview = Preview::make(&folder, &self.names)?;
        let error = paint("error:", Colour::Red, Terminal::of_output());
        for line in lines(&preview.problems) {
            writeln!(output, "{error} {line}")?;
        }
        let of_fleet = |fleet: &Fleet| {
            let is_one_machines =
                |name| fleet.hosts.contains_key(name) || preview.faulty.contains(name);
            let mut hosts = preview.problems.iter().map(|problem| problem.host.as_ref());
            !hosts.all(|host| host.is_some_and(is_one_machines))
        };
        let fleet = preview.fleet.clone().filter(|fleet| !of_fleet(fleet));
        let Some(fleet) = fleet else {
            writeln!(output, "Nothing was approved: correct the errors first.")?;
            return Ok(false);
        };
        let mut deployment = Deployment {
            folder: &folder,
            fleet,
            is_good: preview.problems.is_empty(),
            preview,
            changes: Vec::new(),
            output,
        };
        self.deploy(&mut deployment)?;
        Ok(deployment.is_good)
    }

    fn deploy(&self, deployment: &mut Deployment<'_>) -> anyhow::Result<()> {
        deployment.compare(&self.appliance)?;
        if deployment.changes.is_empty() {
            writeln!(deployment.output, "Nothing to do: no changes.")?;
            return Ok(());
        }
        deployment.warn()?;
        if deployment.changes.is_empty() {
            writeln!(
                deployment.output,
                "Nothing was approved: correct the errors first."
            )?;
            return Ok(());
        }
        if !self.dry_run {
            let asks = deployment.fleet.publish.when == When::Deploy;
            if asks && !deployment.unapproved().is_empty() {
                // Now, not after an hour of builds.
                self.confirm.require_terminal()?;
            }
            deployment.build(self.no_build)?;
            deployment.remove_unbuilt()?;
            if deployment.changes.is_empty() {
                writeln!(deployment.output, "Nothing was approved.")?;
                return Ok(());
            }
        }
        changes::print(&deployment.changes, deployment.output)?;
        deployment.print_paused()?;
        if deployment.fleet.publish.when == When::Change {
            return deployment.explain_change();
        }
        let new = deployment.unapproved();
        if self.dry_run {
            let machines = changes::machines(new.len());
            writeln!(
                deployment.output,
                "Dry run: nothing was approved; it would be for {machines}."
            )?;
        } else if new.is_empty() {
            writeln!(deployment.output, "Already approved. {NEXT}")?;
        } else if self.confirm.ask(&format!(
            "Approve this for {}?",
            changes::machines(new.len())
        ))? {
            deployment.require_same()?;
            deployment.approve(&new)?;
        } else {
            writeln!(deployment.output, "Nothing was approved.")?;
        }
        Ok(())
    }
}

/// The next step after an approval.
const NEXT: &str = "The appliance publishes it when the approval in .bento reaches its fleet folder: if that is another \
                    checkout, commit and push .bento.";

/// The most warnings that are printed.
const WARNINGS: usize = 10;

impl Deployment<'_> {
    /// Finds the changes: to the published generations, or, if the appliance can't be asked, to the recorded ones.
    fn compare(&mut self, appliance: &ApplianceOption) -> anyhow::Result<()> {
        let changes = appliance
            .find()
            .and_then(|appliance| appliance.changes(&self.preview));
        self.changes = match changes {
            Ok(changes) => changes
                .machines
                .into_iter()
                .map(DeployChange::Known)
                .collect(),
            Err(error) => {
                let recorded = match self.fleet.publish.when {
                    When::Deploy => "approved",
                    When::Change => "built",
                };
                writeln!(
                    self.output,
                    "Can't ask the appliance for the published generations, so this compares with the last {recorded} ones: {error:#}"
                )?;
                self.recorded()
            }
        };
        Ok(())
    }

    /// Prints errors and warnings about the machines to deploy, before an hour of builds.
    fn warn(&mut self) -> anyhow::Result<()> {
        let changes = &self.changes;
        let is_deployed = |name: &HostName| changes.iter().any(|change| change.machine() == name);
        self.preview.machines.retain(|name, _| is_deployed(name));
        let findings = Findings::of(self.folder, &self.preview);
        let errors: Vec<_> = findings.errors.into_iter().collect();
        let mark = paint("error:", Colour::Red, Terminal::of_output());
        for line in lines(&errors) {
            writeln!(self.output, "{mark} {line}")?;
        }
        let is_faulty =
            |name: &HostName| errors.iter().any(|error| error.host.as_ref() == Some(name));
        self.is_good &= errors.is_empty();
        self.changes.retain(|change| !is_faulty(change.machine()));
        self.preview.machines.retain(|name, _| !is_faulty(name));
        let warnings: Vec<_> = findings.warnings.into_iter().collect();
        let warnings = lines(&warnings);
        let mark = paint("warning:", Colour::Yellow, Terminal::of_output());
        for line in warnings.iter().take(WARNINGS) {
            writeln!(self.output, "{mark} {line}")?;
        }
        if let Some(more @ 1..) = warnings.len().checked_sub(WARNINGS) {
            writeln!(self.output, "{mark} {more} more: run `bento check` for all")?;
        }
        Ok(())
    }

    fn recorded(&self) -> Vec<DeployChange> {
        let host_previews = self.preview.machines.values().flatten();
        let changes = host_previews.map(|host_preview| {
            let machine = host_preview.manifest.host().clone();
            let from = match self.fleet.publish.when {
                When::Deploy => self.approved(&machine),
                When::Change => self.built(&machine),
            };
            DeployChange::Recorded {
                machine,
                from,
                to: host_preview.manifest.generation(),
            }
        });
        changes
            .filter(|change| change.from() != Some(change.to()))
            .collect()
    }

    /// The approved generation of a machine. An unreadable record is replaced later.
    fn approved(&self, machine: &HostName) -> Option<GenerationId> {
        let approval = Approval::of(&self.preview.folder, machine).ok()??;
        Some(approval.generation)
    }

    fn built(&self, machine: &HostName) -> Option<GenerationId> {
        let build = Build::of(&self.preview.folder, machine).ok()??;
        Some(build.generation)
    }

    fn is_built(&self, change: &DeployChange) -> bool {
        self.built(change.machine()) == Some(change.to())
    }

    /// Builds the systems that aren't built yet; machines with failed builds are left out.
    fn build(&mut self, no_build: bool) -> anyhow::Result<()> {
        let unbuilt = self.changes.iter().filter(|change| !self.is_built(change));
        let unbuilt: BTreeSet<HostName> = unbuilt.map(|change| change.machine().clone()).collect();
        if unbuilt.is_empty() || no_build {
            return Ok(());
        }
        if bento_nix::version().is_none() {
            let machines = changes::machines(unbuilt.len());
            writeln!(
                self.output,
                "Not built for {machines}: Nix isn't installed here."
            )?;
            return Ok(());
        }
        self.preview
            .machines
            .retain(|name, _| unbuilt.contains(name));
        let mut screen = Screen::new(&mut *self.output, Terminal::of_output(), false);
        let options = BuildOptions {
            jobs: BuildOptions::default_jobs(),
            dry_run: false,
            copy_to: Vec::new(),
            verbose: false,
        };
        let results = build::build(&self.preview, self.folder, &options, &mut screen)?;
        self.is_good &= results.are_good();
        if results.is_interrupted {
            self.changes.clear();
            return Ok(());
        }
        let is_failed = |outcome: &BuildOutcome| !matches!(outcome, BuildOutcome::Built { .. });
        let failed = results
            .machines
            .iter()
            .filter(|(_, outcome)| is_failed(outcome));
        let failed: Vec<&HostName> = failed.map(|(name, _)| name).collect();
        if !failed.is_empty() {
            let names = changes::listed(&failed);
            let publish = &self.fleet.publish;
            let what = match publish.when {
                When::Deploy => "so it wasn't approved",
                When::Change if publish.require_build => "so the appliance doesn't publish it",
                When::Change => "but the appliance publishes it anyway",
            };
            writeln!(self.output, "{names}: the build failed, {what}.")?;
        }
        self.changes
            .retain(|change| !failed.contains(&change.machine()));
        Ok(())
    }

    /// With `require_build`, leaves out machines without a built system.
    fn remove_unbuilt(&mut self) -> anyhow::Result<()> {
        if !self.fleet.publish.require_build {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.changes);
        let (built, unbuilt): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| self.is_built(change));
        self.changes = built;
        let error = paint("error:", Colour::Red, Terminal::of_output());
        for change in &unbuilt {
            let machine = change.machine();
            writeln!(
                self.output,
                "{error} {machine} isn't built, and {FILE_NAME} has require_build = true: run `bento build {machine}` on \
                 a machine with Nix"
            )?;
        }
        self.is_good &= unbuilt.is_empty();
        Ok(())
    }

    fn print_paused(&mut self) -> anyhow::Result<()> {
        for change in &self.changes {
            let machine = change.machine();
            if self
                .fleet
                .hosts
                .get(machine)
                .is_some_and(|host| host.paused)
            {
                writeln!(
                    self.output,
                    "{machine} is paused: it keeps its current generation until `bento host resume {machine}`."
                )?;
            }
        }
        Ok(())
    }

    fn explain_change(&mut self) -> anyhow::Result<()> {
        let what = if self.fleet.publish.require_build {
            "built generations"
        } else {
            "the fleet folder"
        };
        writeln!(
            self.output,
            "Nothing to approve: with [publish] when = \"change\" in {FILE_NAME}, the appliance publishes {what} \
             automatically."
        )?;
        Ok(())
    }

    /// The machines without an approval of this change.
    fn unapproved(&self) -> Vec<HostName> {
        let changes = self.changes.iter();
        let new = changes.filter(|change| self.approved(change.machine()) != Some(change.to()));
        new.map(|change| change.machine().clone()).collect()
    }

    /// Requires that the fleet folder still gives the shown generations.
    fn require_same(&self) -> anyhow::Result<()> {
        let names: Vec<_> = self
            .changes
            .iter()
            .map(|change| change.machine().clone())
            .collect();
        let preview = Preview::make(self.folder, &names)?;
        for change in &self.changes {
            let host_preview = preview
                .machines
                .get(change.machine())
                .and_then(Option::as_ref);
            if host_preview.map(|host_preview| host_preview.manifest.generation())
                != Some(change.to())
            {
                bail!(
                    "the files or settings of {} have changed in the meantime, so nothing was approved: run `bento deploy` \
                     again",
                    change.machine()
                );
            }
        }
        Ok(())
    }

    fn approve(&mut self, machines: &[HostName]) -> anyhow::Result<()> {
        for change in self
            .changes
            .iter()
            .filter(|change| machines.contains(change.machine()))
        {
            let approval = Approval {
                format: Format,
                generation: change.to(),
                at: Timestamp::now(),
            };
            let path = || self.folder.join(path::<Approval>(change.machine()));
            approval
                .write(self.folder, change.machine())
                .map_err(|error| unwritable(&path(), error))?;
        }
        writeln!(
            self.output,
            "Approved for {}. {NEXT}",
            changes::machines(machines.len())
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
