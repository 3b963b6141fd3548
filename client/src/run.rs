//! An update of this very machine: the [`World`] that is real.

use anyhow::Context;
use bento_protocol::{GenerationId, Phase, Report, RunId, SystemPath};

use crate::activate::{self, Activation};
use crate::build;
use crate::connection::Connection;
use crate::console::Console;
use crate::durable;
use crate::exit::{Because, ExitReason, Failure};
use crate::generations::{self, Staged};
use crate::identity::Identity;
use crate::machine::{Machine, Situation};
use crate::poll;
use crate::pull::{self, PullError, Pulled, Source};
use crate::record::{self, Installed, Told};
use crate::report;
use crate::secrets;
use crate::settings::Settings;
use crate::spool::Spool;
use crate::stage;
use crate::state::{LockError, State};
use crate::tail::Tail;
use crate::transaction::{self, World};
use crate::verify::{self, Verified};

/// Brings this machine to the generation that is published for it, and reports.
pub fn update(settings: &Settings, state: &State, machine: &Machine) -> Result<(), Failure> {
    let identity = Identity::read(&settings.identity_file).because(ExitReason::Usage)?;
    state.prepare().because(ExitReason::Usage)?;
    let lock = state.lock().map_err(|error| {
        let reason = match error {
            LockError::Held(..) => ExitReason::Locked,
            LockError::Other(_) => ExitReason::Usage,
        };
        Failure {
            reason,
            error: error.into(),
        }
    })?;
    let run = RunId::now();
    let mut here = Here {
        settings,
        state,
        machine,
        identity,
        run,
        connection: None,
        console: Console::new(),
        tail: Tail::default(),
        nix_version: None,
    };
    let result = transaction::update(&mut here, run);
    drop(lock);
    result
}

/// This machine, its server and its terminal.
struct Here<'a> {
    settings: &'a Settings,
    state: &'a State,
    machine: &'a Machine,
    identity: Identity,
    run: RunId,
    connection: Option<Connection>,
    console: Console,
    tail: Tail,
    nix_version: Option<String>,
}

/// The connection that there is, or a new one.
fn connection<'c>(
    slot: &'c mut Option<Connection>,
    settings: &Settings,
    identity: &Identity,
) -> anyhow::Result<&'c Connection> {
    let connection = match slot.take() {
        Some(connection) => connection,
        None => poll::connect(settings, identity)?,
    };
    Ok(slot.insert(connection))
}

impl Here<'_> {
    fn try_to_deliver(&mut self) -> anyhow::Result<()> {
        let connection = connection(&mut self.connection, self.settings, &self.identity)?;
        let console = &mut self.console;
        report::deliver(connection, self.state, &mut |error| {
            console.warn(&format!("{error:#}"))
        })
    }

    /// Reads a record; one that is damaged is as good as none, because the next run writes it again.
    fn read<T: serde::de::DeserializeOwned>(&mut self, path: &std::path::Path) -> Option<T> {
        record::read(path).unwrap_or_else(|error| {
            self.warn(&format!("{error:#}"));
            None
        })
    }
}

impl World for Here<'_> {
    type Base = Staged;
    type Pulled = Pulled;
    type Verified = Verified;
    type Staged = Staged;

    fn installed(&mut self) -> Option<Installed> {
        self.read(&self.state.installed())
    }

    fn situation(&mut self) -> Situation {
        self.machine.situation()
    }

    fn told(&mut self) -> Option<Told> {
        let spool = Spool::new(self.state);
        let newest = spool
            .waiting()
            .ok()
            .and_then(|waiting| waiting.last().copied());
        match newest.and_then(|newest| spool.report(&newest).ok()) {
            Some(report) => Some(Told::by(&report)),
            None => self.read(&self.state.delivered()),
        }
    }

    fn poll(&mut self) -> anyhow::Result<GenerationId> {
        let (connection, generation) = poll::poll(self.settings, &self.identity)?;
        self.connection = Some(connection);
        Ok(generation)
    }

    fn deliver(&mut self) {
        let waits = Spool::new(self.state)
            .waiting()
            .is_ok_and(|waiting| !waiting.is_empty());
        if !waits {
            return;
        }
        if let Err(error) = self.try_to_deliver() {
            self.warn(&format!(
                "what was to be reported waits for the next run: {error:#}"
            ));
            // It may be dead; the next use of it dials again.
            self.hang_up();
        }
    }

    fn staged(&mut self, generation: GenerationId) -> anyhow::Result<Option<Staged>> {
        let mut damaged = None;
        let staged = verify::staged(self.state, &generation, &mut |error| damaged = Some(error));
        if let Some(error) = damaged {
            self.warn(&format!("{error:#}"));
        }
        staged
    }

    fn base(&mut self, generation: GenerationId) -> Option<Staged> {
        generations::newest_other(self.state, &generation)
    }

    fn pull(
        &mut self,
        generation: GenerationId,
        base: Option<Staged>,
    ) -> Result<Pulled, PullError> {
        let source = base.map_or(Source::Bundle, |base| Source::Delta(Box::new(base)));
        let connection = connection(&mut self.connection, self.settings, &self.identity)
            .map_err(PullError::Lost)?;
        let console = &mut self.console;
        pull::pull(
            connection,
            self.state,
            &self.settings.name,
            generation,
            source,
            &mut |done, total| console.progress("pull", done, total),
        )
    }

    fn verify(&mut self, pulled: Pulled) -> Result<Verified, PullError> {
        verify::verify(self.state, pulled)
    }

    fn stage(
        &mut self,
        verified: Verified,
        installed: Option<GenerationId>,
    ) -> anyhow::Result<Staged> {
        let unknown: Vec<_> = verified
            .manifest
            .policy()
            .unknown()
            .map(|key| format!("{key:?}"))
            .collect();
        if !unknown.is_empty() {
            self.warn(&format!(
                "the policy has keys that this version doesn't know and doesn't act on: {}",
                unknown.join(", ")
            ));
        }
        stage::stage(self.state, verified, installed)
    }

    fn hang_up(&mut self) {
        self.connection = None;
    }

    fn switch_secrets(&mut self, generation: Option<GenerationId>) -> anyhow::Result<()> {
        secrets::switch_to(self.state, generation.as_ref())
    }

    fn build(&mut self, staged: &Staged) -> anyhow::Result<SystemPath> {
        self.nix_version = build::nix_version();
        let console = &mut self.console;
        build::build(
            self.settings,
            self.state,
            staged,
            &mut self.tail,
            &mut |line| console.line(line),
        )
    }

    fn is_half_activated(&mut self) -> bool {
        self.state.activating().exists()
    }

    fn activate(&mut self, system: &SystemPath) -> anyhow::Result<Activation> {
        let marker = self.state.activating();
        record::write(&marker, system)?;
        let (console, tail) = (&mut self.console, &mut self.tail);
        let activation =
            activate::activate(self.machine, self.state, self.run, system, &mut |line| {
                tail.push(line);
                console.line(line);
            })?;
        durable::remove_if_there(&marker)
            .with_context(|| format!("can't remove {}", marker.display()))?;
        Ok(activation)
    }

    fn record(&mut self, installed: &Installed) -> anyhow::Result<()> {
        record::write(&self.state.installed(), installed)?;
        generations::remove_all_but(self.state, &[installed.generation])
    }

    fn report(&mut self, report: Report) {
        let dropped = Spool::new(self.state).add(&report).unwrap_or_else(|error| {
            self.warn(&format!("the report is lost: {error:#}"));
            0
        });
        if dropped > 0 {
            self.warn(&format!(
                "too many reports wait: the {dropped} oldest were dropped"
            ));
        }
        self.deliver();
    }

    fn log(&mut self) -> String {
        self.tail.text()
    }

    fn nix_version(&mut self) -> Option<String> {
        self.nix_version.clone()
    }

    fn show(&mut self, phase: &Phase, note: &str) {
        self.console.phase(phase, note);
    }

    fn warn(&mut self, warning: &str) {
        self.console.warn(warning);
    }
}
