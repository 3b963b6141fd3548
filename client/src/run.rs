//! A run on this very machine: the [`Effects`](crate::update::Effects) that is real.

mod effects;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bento_nix::Tail;
use bento_protocol::{RunId, SystemPath};

use crate::console::Console;
use crate::environment::Environment;
use crate::exit::{Because, ExitReason, Failure};
use crate::generation::staged::Staged;
use crate::machine::Machine;
use crate::machine::rollback_timer;
use crate::machine::rollback_timer::{Decision, Inhibitor};
use crate::machine::secrets;
use crate::server::connection::Connection;
use crate::server::delivery;
use crate::server::identity::Identity;
use crate::server::poll;
use crate::settings::Settings;
use crate::state::record;
use crate::state::record::{Awaiting, Installed, Journal};
use crate::state::spool::Spool;
use crate::state::{Lock, LockError, State};
use crate::update;
use crate::update::UpdateOptions;

/// Brings this machine to the generation that is published for it, and reports. With `force`, also to one that wouldn't
/// carry on.
pub fn update(
    environment: &Environment,
    options: UpdateOptions,
    force: bool,
) -> Result<(), Failure> {
    let known = Identity::with_settings(&environment.config);
    let _lock = prepare(environment)?;
    // What was left undone is completed also where the settings are what is broken.
    let known = known
        .inspect_err(|_| {
            update::recover(&mut LiveEffects::new(environment, None));
        })
        .because(ExitReason::Usage)?;
    let options = UpdateOptions {
        // What the guard has refused is known to have failed.
        retry: options.retry || force,
        ..options
    };
    let mut effects = LiveEffects::new(environment, Some(known));
    effects.force = force;
    update::update(&mut effects, options)
}

/// Restarts this machine if that is wanted and allowed now.
pub fn reboot_if_needed(environment: &Environment) -> Result<(), Failure> {
    let known = Identity::with_settings(&environment.config).because(ExitReason::Usage)?;
    let _lock = prepare(environment)?;
    let mut effects = LiveEffects::new(environment, Some(known));
    update::reboot_if_needed(&mut effects)
}

/// Reports the present state, and prints to which server.
pub fn report(environment: &Environment) -> Result<(), Failure> {
    let known = Identity::with_settings(&environment.config).because(ExitReason::Usage)?;
    let _lock = prepare(environment)?;
    let mut effects = LiveEffects::new(environment, Some(known));
    update::report_now(&mut effects)?;
    let server = effects.polled.take().unwrap_or_default();
    effects
        .console
        .line(&format!("The report was delivered to {server}."));
    Ok(())
}

/// Brings the old system back when the armed timer elapses, unless the new one was confirmed. It needs neither settings
/// nor the lock of runs: the one may be what is broken, and the other in the hands of a run that hangs.
pub fn roll_back_armed(environment: &Environment, run: RunId) -> Result<(), Failure> {
    if rollback_timer::decision(&environment.state, run).because(ExitReason::RolledBack)?
        != Some(Decision::Armed)
    {
        return Ok(());
    }
    let mut effects = LiveEffects::new(environment, None);
    let journal: Journal = record::read(&environment.state.journal())
        .and_then(|journal: Option<Journal>| {
            let journal = journal.filter(|journal| journal.run == run);
            journal.with_context(|| format!("there is no journal of the run {run}"))
        })
        .because(ExitReason::RolledBack)?;
    let was_brought_back = update::roll_back(&mut effects, &journal)
        .context("THE ROLLBACK FAILED, and this machine needs attention; it is tried again at the next start")
        .because(ExitReason::RolledBack)?;
    if was_brought_back {
        effects
            .console
            .warn("nothing had confirmed the new system in time: the old one is back");
        report_at_once(environment);
    }
    Ok(())
}

/// If the run that was to be confirmed is dead, its report is made now instead of at the next start.
fn report_at_once(environment: &Environment) {
    // The run lives, and reports that itself.
    let Ok(_lock) = environment.state.lock() else {
        return;
    };
    let known = Identity::with_settings(&environment.config);
    // Without them the report waits for the next start.
    if let Ok(known) = known {
        update::recover(&mut LiveEffects::new(environment, Some(known)));
    }
}

/// Goes back by hand to what ran before the last update.
pub fn roll_back_by_hand(environment: &Environment) -> Result<(), Failure> {
    let _lock = prepare(environment)?;
    let known = Identity::with_settings(&environment.config);
    let mut effects = LiveEffects::new(environment, known.ok());
    let old = update::roll_back_by_hand(&mut effects)?;
    effects.console.line(&format!(
        "{old} runs again. The newer generation isn't installed again until it changes, or until \
         `bento-client update --retry`."
    ));
    Ok(())
}

/// Switches the secrets to those of the booted system: the running one, or `booting` before it runs. A run that
/// began since that boot brings its own, also where it switches to the first system that the machine has.
pub fn switch_secrets_of_boot(
    environment: &Environment,
    booting: Option<&Path>,
) -> anyhow::Result<()> {
    let installed = record::read(&environment.state.installed())?;
    let awaiting = record::read(&environment.state.awaiting())?;
    let journal: Option<Journal> = record::read(&environment.state.journal())?;
    let running = match booting {
        Some(system) => Machine::system_at(system),
        None => environment.machine.running(),
    };
    let situation = environment
        .machine
        .situation_of(running, || known_systems(&environment.state));
    if journal
        .as_ref()
        .is_some_and(|journal| journal.before.boot == situation.boot)
    {
        return Ok(());
    }
    let generation = update::secrets_of_boot(
        installed.as_ref(),
        awaiting.as_ref(),
        journal.as_ref(),
        &situation,
    );
    secrets::switch_to(&environment.state, generation.as_ref())
}

fn prepare(environment: &Environment) -> Result<Lock, Failure> {
    environment.state.prepare().because(ExitReason::Usage)?;
    environment.state.lock().map_err(|error| {
        let reason = match error {
            LockError::Held(..) => ExitReason::Locked,
            LockError::Other(_) => ExitReason::Usage,
        };
        Failure {
            reason,
            error: error.into(),
        }
    })
}

/// The systems that the client knows; a record that is damaged is as good as none.
fn known_systems(state: &State) -> Vec<SystemPath> {
    let journal: Option<Journal> = record::read(&state.journal()).ok().flatten();
    let installed: Option<Installed> = record::read(&state.installed()).ok().flatten();
    let awaiting: Option<Awaiting> = record::read(&state.awaiting()).ok().flatten();
    [
        journal.and_then(|journal| journal.built),
        installed.map(|installed| installed.system),
        awaiting.map(|awaiting| awaiting.installed.system),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// This machine, its server and its terminal.
struct LiveEffects<'a> {
    environment: &'a Environment,
    state: &'a State,
    machine: &'a Machine,
    known: Option<(Settings, Identity)>,
    force: bool,
    connection: Option<Connection>,
    /// The server that was polled.
    polled: Option<String>,
    inhibitor: Option<Inhibitor>,
    console: Console,
    tail: Tail,
    nix_version: Option<String>,
    /// Records that were found to be damaged: each is warned of once.
    damaged: BTreeSet<PathBuf>,
}

/// A staged generation, and the folder to build.
struct StagedSource {
    staged: Staged,
    /// The folder of the generation, or of a working copy with updated inputs.
    config: PathBuf,
}

/// The settings and the key, for what can't be done without them. Apart from [`LiveEffects`], whose other parts are in use then.
fn usable<'k>(
    known: &'k Option<(Settings, Identity)>,
    environment: &Environment,
) -> anyhow::Result<&'k (Settings, Identity)> {
    known.as_ref().with_context(|| {
        format!(
            "the settings {} can't be used",
            environment.config.display()
        )
    })
}

/// The connection that there is, or a new one.
fn connection<'c>(
    slot: &'c mut Option<Connection>,
    (settings, identity): &(Settings, Identity),
) -> anyhow::Result<&'c Connection> {
    let connection = match slot.take() {
        Some(connection) => connection,
        None => poll::connect(settings, identity)?,
    };
    Ok(slot.insert(connection))
}

impl<'a> LiveEffects<'a> {
    fn new(environment: &'a Environment, known: Option<(Settings, Identity)>) -> Self {
        LiveEffects {
            environment,
            state: &environment.state,
            machine: &environment.machine,
            known,
            force: false,
            connection: None,
            polled: None,
            inhibitor: None,
            console: Console::new(),
            tail: Tail::default(),
            nix_version: None,
            damaged: BTreeSet::new(),
        }
    }

    fn try_to_deliver(&mut self) -> anyhow::Result<()> {
        let known = usable(&self.known, self.environment)?;
        let connection = connection(&mut self.connection, known)?;
        let console = &mut self.console;
        delivery::deliver(connection, self.state, &mut |error| {
            console.warn(&format!("{error:#}"))
        })
    }

    fn has_waiting_reports(&self) -> bool {
        Spool::new(self.state)
            .waiting()
            .is_ok_and(|waiting| !waiting.is_empty())
    }

    /// Reads a record; one that is damaged is as good as none, because the next run writes it again.
    fn read<T: serde::de::DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        record::read(path).unwrap_or_else(|error| {
            if self.damaged.insert(path.to_owned()) {
                self.console.warn(&format!("{error:#}"));
            }
            None
        })
    }

    fn warn_of<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| self.console.warn(&format!("{error:#}")))
            .ok()
    }
}
