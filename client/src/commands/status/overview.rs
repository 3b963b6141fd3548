//! Content of `bento-client status`: the systems of this machine, the run in progress, and the next step.

use std::fmt;

use bento_protocol::{GenerationId, SystemPath};
use jiff::Timestamp;
use serde::Serialize;

use crate::machine::Machine;
use crate::machine::rollback_timer;
use crate::machine::rollback_timer::Decision;
use crate::state::State;
use crate::state::contact;
use crate::state::contact::NoContact;
use crate::state::hold;
use crate::state::record;
use crate::state::record::{Awaiting, Failed, Installed, Journal, PastRun, PhaseName};
use crate::state::spool::Spool;
use crate::update::BootState;

/// State of the machine, and records of the client.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// The version of this document.
    format: u8,
    /// The generation that is installed.
    generation: Option<GenerationId>,
    /// The system that was built from it.
    built: Option<SystemPath>,
    /// The running system.
    running: Option<SystemPath>,
    /// The specialisation that runs, by its name.
    specialisation: Option<String>,
    /// Whether what runs is neither what was built nor a specialisation of it.
    drifted: bool,
    /// The booted system.
    booted: Option<SystemPath>,
    /// The system that the next boot leads to.
    profile: Option<SystemPath>,
    /// Whether a change takes effect only at the next boot.
    reboot_required: bool,
    /// The generation that takes effect at the next boot.
    awaiting: Option<GenerationId>,
    /// The state of a boot that an update waits for.
    boot: BootState,
    /// The record of that boot.
    #[serde(skip)]
    awaited: Option<Awaiting>,
    /// The process of the run in progress.
    holder: Option<u32>,
    /// The phase of that run; without a holder, the phase in which it was cut short.
    phase: Option<PhaseName>,
    /// Whether the old system comes back unless the new one is confirmed.
    armed: bool,
    /// The last failure, and the time of the next try.
    failed: Option<Failure>,
    /// The reason, if no server can be polled.
    no_contact: Option<NoContact>,
    /// The end of the owner's pause of updates.
    held: Option<Timestamp>,
    /// Number of reports that wait for delivery.
    waiting_reports: usize,
    /// The last runs, oldest first.
    runs: Vec<PastRun>,
}

#[derive(Debug, Serialize)]
struct Failure {
    #[serde(flatten)]
    failed: Failed,
    /// None: not until it changes.
    retry_at: Option<Timestamp>,
}

impl Overview {
    /// Reads the state and the records. Needs no lock, and changes nothing.
    pub fn of(state: &State, machine: &Machine) -> anyhow::Result<Self> {
        let installed: Option<Installed> = record::read(&state.installed())?;
        let journal: Option<Journal> = record::read(&state.journal())?;
        let known = installed.iter().map(|it| it.system.clone());
        let awaiting: Option<Awaiting> = record::read(&state.awaiting())?;
        let known = known.chain(journal.iter().filter_map(|journal| journal.built.clone()));
        let known = known.chain(awaiting.iter().map(|it| it.installed.system.clone()));
        let situation = machine.situation_with(|| known.collect());
        let boot = BootState::of(awaiting.as_ref(), &situation);
        let failed: Option<Failed> = record::read(&state.failed())?;
        // What an update brings is installed once it is proven.
        let new = journal.as_ref().and_then(|journal| journal.built.as_ref());
        let is_on_new = new.is_some_and(|built| situation.is_on(built));
        let is_on_boot = awaiting
            .as_ref()
            .is_some_and(|awaiting| boot.explains(awaiting, &situation));
        let drifted = !is_on_new
            && !is_on_boot
            && installed
                .as_ref()
                .is_some_and(|installed| !situation.is_on(&installed.system));
        let staged = awaiting.as_ref().filter(|_| boot == BootState::Staged);
        let changes_at_boot = matches!(boot, BootState::Staged | BootState::Returning);
        let armed = rollback_timer::all(state);
        Ok(Overview {
            format: 1,
            generation: installed.as_ref().map(|installed| installed.generation),
            built: installed.map(|installed| installed.system),
            running: situation.running,
            specialisation: situation.specialisation.map(|it| it.name),
            drifted,
            booted: situation.booted,
            profile: situation.profile,
            reboot_required: situation.reboot_required || changes_at_boot,
            awaiting: staged.map(|awaiting| awaiting.installed.generation),
            boot,
            awaited: awaiting,
            holder: state.holder(),
            phase: journal.map(|journal| journal.phase),
            armed: armed
                .iter()
                .any(|(_, decision)| *decision == Decision::Armed),
            failed: failed.map(|failed| Failure {
                retry_at: failed.retry_at(),
                failed,
            }),
            no_contact: contact::missing(state),
            held: hold::until(state, Timestamp::now()),
            waiting_reports: Spool::new(state)
                .waiting()
                .map_or(0, |waiting| waiting.len()),
            runs: record::read(&state.history())?.unwrap_or_default(),
        })
    }

    /// Result of a boot that an update waited for, with the error that its proof ended with.
    fn last_boot(&self) -> Option<String> {
        let awaited = self.awaited.as_ref()?;
        let generation = awaited.installed.generation.short();
        let error = awaited
            .failure
            .as_ref()
            .map_or("", |failure| &failure.error);
        Some(match self.boot {
            BootState::Unproven => format!(
                "generation {generation}, not proven yet: the next run proves it, or goes back"
            ),
            BootState::Stuck => format!(
                "generation {generation}, which failed its proof; going back failed, too, and is tried again by the next run"
            ),
            BootState::FellBack => format!(
                "not generation {generation}, but another system: the next run gives that generation up"
            ),
            BootState::Returning => {
                format!("generation {generation}, which failed its proof: {error}")
            }
            BootState::Returned => format!(
                "back from generation {generation}, which failed its proof; the next run reports that: {error}"
            ),
            BootState::Idle
            | BootState::Staged
            | BootState::Rebooting
            | BootState::Withdrawn
            | BootState::Overridden => return None,
        })
    }

    /// The system that the next boot leads to, if it changes something.
    fn next_boot(&self) -> Option<String> {
        let profile = or_none(&self.profile);
        let awaited = self.awaited.as_ref();
        let generation = awaited.map(|awaited| awaited.installed.generation.short());
        match (self.boot, generation) {
            (BootState::Staged, Some(generation)) => Some(format!("generation {generation}")),
            (BootState::Withdrawn | BootState::Overridden, Some(generation)) => {
                Some(format!("{profile}, in place of generation {generation}"))
            }
            (BootState::Returning, _) => Some(format!("back to {profile}")),
            _ if self.reboot_required => {
                Some("wanted: kernel, initrd or modules have changed".to_owned())
            }
            _ => None,
        }
    }

    fn run_in_progress(&self) -> String {
        let armed = match self.armed {
            true => "; the old system comes back unless the new one is confirmed",
            false => "",
        };
        match (self.holder, self.phase) {
            (Some(process), Some(phase)) => {
                format!("an update is in its phase {phase} (process {process}){armed}")
            }
            (Some(process), None) if self.boot.awaits_proof() => {
                format!("a run proves the system that was booted (process {process})")
            }
            (Some(process), None) => {
                format!("a run polls for a new generation (process {process})")
            }
            (None, Some(phase)) => format!(
                "a run was cut short in its phase {phase}; the next one completes it{armed}"
            ),
            (None, None) => "none".to_owned(),
        }
    }
}

fn or_none(system: &Option<SystemPath>) -> String {
    let system = system.as_ref();
    system.map_or("nothing known".to_owned(), SystemPath::to_string)
}

impl fmt::Display for Overview {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row =
            |name: &str, value: &dyn fmt::Display| writeln!(formatter, "{name:<12}{value}");
        match &self.generation {
            Some(generation) => row("generation", generation)?,
            None => row("generation", &"none installed yet")?,
        }
        row("running", &or_none(&self.running))?;
        if let Some(name) = &self.specialisation {
            row("", &format!("the specialisation {name:?}"))?;
        }
        if self.drifted {
            row("", &format!("not what was built: {}", or_none(&self.built)))?;
            row("", &"`bento-client update --retry` switches back to that")?;
        }
        if let Some(last) = self.last_boot() {
            for (index, line) in last.lines().enumerate() {
                row(if index == 0 { "last boot" } else { "" }, &line)?;
            }
        }
        if let Some(next) = self.next_boot() {
            row("next boot", &next)?;
        }
        row("run", &self.run_in_progress())?;
        if let Some(Failure { failed, retry_at }) = &self.failed {
            let when = retry_at.map_or(
                "not tried again until it changes, or `bento-client update --retry`".to_owned(),
                |at| match at <= Timestamp::now() {
                    true => "tried again at the next run".to_owned(),
                    false => format!("tried again after {at:.0}"),
                },
            );
            let what = if failed.auto { "self-update of " } else { "" };
            row(
                "failed",
                &format!("{what}generation {}, {when}", failed.generation.short()),
            )?;
            for line in failed.error.lines() {
                row("", &line)?;
            }
        }
        if let Some(NoContact { since, error }) = &self.no_contact {
            row("no contact", &format!("since {since:.0}"))?;
            row("", error)?;
        }
        if let Some(until) = &self.held {
            row(
                "held",
                &format!("until {until:.0}; `bento-client hold off` ends that"),
            )?;
        }
        if self.waiting_reports > 0 {
            row(
                "reports",
                &format!("{} wait for delivery", self.waiting_reports),
            )?;
        }
        for (index, run) in self.runs.iter().rev().take(5).enumerate() {
            let name = if index == 0 { "last runs" } else { "" };
            let auto = if run.auto { " by itself" } else { "" };
            row(
                name,
                &format!(
                    "{:.0}  {:<18}{}{auto}",
                    run.finished,
                    // As the states of `bento status` are spelled.
                    run.outcome.as_str().replace('_', "-"),
                    run.generation.short()
                ),
            )?;
        }
        Ok(())
    }
}
