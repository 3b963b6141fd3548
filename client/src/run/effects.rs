use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use bento_protocol::{Digest, GenerationId, Outcome, Phase, Policy, Report, RunId, SystemPath};
use jiff::Timestamp;

use super::{LiveEffects, Source, connection, known_systems, usable};
use crate::generation::pull;
use crate::generation::pull::{PullError, Pulled};
use crate::generation::received;
use crate::generation::stage;
use crate::generation::staged;
use crate::generation::staged::Staged;
use crate::generation::verify;
use crate::generation::verify::Verified;
use crate::machine::Situation;
use crate::machine::build;
use crate::machine::confirm;
use crate::machine::disk;
use crate::machine::guard;
use crate::machine::inputs;
use crate::machine::reboot;
use crate::machine::rollback_timer;
use crate::machine::rollback_timer::{Decision, Inhibitor};
use crate::machine::secrets;
use crate::machine::switch;
use crate::machine::switch::{Action, SwitchError, Switched};
use crate::server::delivery;
use crate::server::poll;
use crate::settings::{Operation, Settings, SystemSettings};
use crate::state::RollbackLock;
use crate::state::atomic_file;
use crate::state::contact;
use crate::state::hold;
use crate::state::record;
use crate::state::record::{Delivered, Installed, Journal, PastRun, Record, Recorded, Told};
use crate::state::spool::Spool;
use crate::update::{Effects, Unconfirmed};

/// How long the network has to come back with the old system, before its report waits for the next run.
const NETWORK_COMES_BACK: Duration = Duration::from_secs(60);
/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_secs(3);
/// How often the appliance is tried before it counts as out of reach.
const REACH_TRIES: usize = 3;

impl Effects for LiveEffects<'_> {
    type Base = Staged;
    type Pulled = Pulled;
    type Verified = Verified;
    type Staged = Source;
    type RollbackLock = RollbackLock;

    fn now(&mut self) -> Timestamp {
        Timestamp::now()
    }

    fn situation(&mut self) -> Situation {
        Situation {
            held: hold::until(self.state, Timestamp::now()),
            ..self.machine.situation_with(|| known_systems(self.state))
        }
    }

    fn specialisation(&mut self, system: &SystemPath, name: &str) -> Option<SystemPath> {
        self.machine.specialisation(system, name)
    }

    fn is_in_store(&mut self, system: &SystemPath) -> bool {
        Path::new(system.as_str()).exists()
    }

    fn recorded(&mut self) -> Recorded {
        // Without the root it may have been collected.
        let fallback = self
            .read(&self.state.fallback())
            .filter(|fallback: &Installed| Path::new(fallback.system.as_str()).exists());
        Recorded {
            installed: self.read(&self.state.installed()),
            fallback,
            awaiting: self.read(&self.state.awaiting()),
            failed: self.read(&self.state.failed()),
            journal: self.read(&self.state.journal()),
            rebooted: self.read(&self.state.rebooted()),
        }
    }

    fn record(&mut self, record: Record<'_>) -> anyhow::Result<()> {
        let state = self.state;
        match record {
            Record::Installed(installed) => self.record_installed(installed),
            Record::Fallback(installed) => {
                // A boot takes it out of /run, and the profile keeps only the newest few.
                rollback_timer::keep_from_collection(&state.fallback_root(), &installed.system)?;
                record::write(&state.fallback(), installed)
            }
            Record::Awaiting(awaiting) => record::keep(&state.awaiting(), awaiting),
            Record::Failed(failed) => record::keep(&state.failed(), failed),
            Record::Journal(journal) => record::keep(&state.journal(), journal),
            Record::Rebooted(rebooted) => record::write(&state.rebooted(), rebooted),
        }
    }

    fn told(&mut self) -> Option<Told> {
        let spool = Spool::new(self.state);
        let newest = spool
            .waiting()
            .ok()
            .and_then(|waiting| waiting.last().copied());
        match newest.and_then(|newest| spool.report(&newest).ok()) {
            Some(report) => Some(Told::by(&report)),
            None => self
                .read::<Delivered>(&self.state.delivered())
                .and_then(|delivered| {
                    delivered.remembered(self.polled.as_deref()?, Timestamp::now())
                }),
        }
    }

    fn poll(&mut self) -> anyhow::Result<GenerationId> {
        let (settings, identity) = usable(&self.known, self.environment)?;
        let polled = poll::poll(settings, identity);
        let noted = match &polled {
            Ok(_) => contact::made(self.state),
            Err(error) => contact::failed(self.state, &format!("{error:#}"), Timestamp::now()),
        };
        self.warn_of(noted);
        let (connection, generation) = polled?;
        self.polled = Some(connection.server().to_owned());
        self.connection = Some(connection);
        // What came of another one isn't wanted any more; what can't be removed goes at the next pull.
        let _ = received::remove_all_but(self.state, Some(&generation));
        Ok(generation)
    }

    fn deliver(&mut self) -> bool {
        if !self.has_waiting_reports() {
            return true;
        }
        if let Err(error) = self.try_to_deliver() {
            self.warn(&format!(
                "what was to be reported waits for the next run: {error:#}"
            ));
            // It may be dead; the next use of it dials again.
            self.hang_up();
            return false;
        }
        true
    }

    fn staged(&mut self, generation: GenerationId) -> anyhow::Result<Option<Source>> {
        let mut damaged = None;
        let staged = verify::staged(self.state, &generation, &mut |error| damaged = Some(error));
        if let Some(error) = damaged {
            self.warn(&format!("{error:#}"));
        }
        Ok(staged?.map(Source::from))
    }

    fn base(&mut self, generation: GenerationId) -> Option<Staged> {
        staged::newest_other(self.state, &generation)
    }

    fn pull(
        &mut self,
        generation: GenerationId,
        base: Option<Staged>,
    ) -> Result<Pulled, PullError> {
        let source = base.map_or(pull::Source::Bundle, |base| {
            pull::Source::Delta(Box::new(base))
        });
        let known = usable(&self.known, self.environment).map_err(PullError::Local)?;
        let connection = connection(&mut self.connection, known).map_err(PullError::Lost)?;
        let console = &mut self.console;
        pull::pull(
            connection,
            self.state,
            &known.0.name,
            generation,
            source,
            &mut |done, total| console.progress("pull", done, total),
        )
    }

    fn verify(&mut self, pulled: Pulled) -> Result<Verified, PullError> {
        verify::verify(self.state, pulled)
    }

    fn stage(&mut self, verified: Verified, keep: &[GenerationId]) -> anyhow::Result<Source> {
        stage::stage(self.state, verified, keep).map(Source::from)
    }

    fn hang_up(&mut self) {
        self.connection = None;
    }

    fn policy(&mut self, source: &Source) -> Policy {
        let policy = source.staged.policy().clone();
        let unknown: Vec<_> = policy.unknown().map(|key| format!("{key:?}")).collect();
        if !unknown.is_empty() {
            self.warn(&format!(
                "the policy has keys that this version doesn't know and doesn't act on: {}",
                unknown.join(", ")
            ));
        }
        policy
    }

    fn policy_of(&mut self, generation: GenerationId) -> Option<Policy> {
        staged::policy(self.state, &generation).ok().flatten()
    }

    fn is_pinned(&mut self, source: &Source) -> bool {
        bento_nix::has_lock(&source.config)
    }

    fn self_update_is_due(&mut self) -> bool {
        let every = self
            .known
            .as_ref()
            .and_then(|(settings, _)| settings.self_update.every);
        let path = self.state.self_updated();
        let now = Timestamp::now();
        let last = self.read(&path);
        let is_due = inputs::is_due(
            every.map_or(Duration::ZERO, |every| every.duration()),
            last,
            now,
        );
        if is_due {
            let remembered = record::write(&path, &now);
            self.warn_of(remembered);
        }
        is_due
    }

    fn move_inputs(&mut self, source: &mut Source) -> anyhow::Result<Digest> {
        let published = build::Source::published(self.state, &source.staged);
        let settings = &usable(&self.known, self.environment)?.0;
        let console = &mut self.console;
        let moved = inputs::move_on(
            &published,
            self.state,
            settings,
            &mut self.tail,
            &mut |line| console.line(line),
        )?;
        source.config = moved.config;
        Ok(moved.mark)
    }

    fn mark(&mut self, source: &Source) -> anyhow::Result<Digest> {
        inputs::mark_of(&source.config)
    }

    fn make_room(&mut self) -> anyhow::Result<()> {
        let settings = &usable(&self.known, self.environment)?.0;
        let console = &mut self.console;
        disk::make_room(&settings.disk, self.machine, &mut |line| console.line(line))
    }

    fn build(&mut self, source: &Source) -> anyhow::Result<SystemPath> {
        self.nix_version = bento_nix::version().map(String::from);
        let published = build::Source::published(self.state, &source.staged);
        let settings = &usable(&self.known, self.environment)?.0;
        let console = &mut self.console;
        build::build(
            settings,
            self.state,
            &build::Source {
                config: &source.config,
                ..published
            },
            &mut self.tail,
            &mut |line| console.line(line),
        )
    }

    fn guard(&mut self, system: &SystemPath) -> Result<(), Unconfirmed> {
        let known = usable(&self.known, self.environment);
        let (settings, identity) = known.map_err(|error| Unconfirmed {
            error,
            is_passing: true,
        })?;
        if self.force || !settings.guard {
            return Ok(());
        }
        guard::check(system, &settings.name, &mut |name| {
            let renamed = Settings {
                name: name.clone(),
                ..settings.clone()
            };
            poll::poll(&renamed, identity).map(drop)
        })
    }

    fn check_boot_room(&mut self, system: &SystemPath) -> anyhow::Result<()> {
        disk::boot_has_room(self.machine, system)
    }

    fn takes_effect_at_boot(&mut self, system: &SystemPath) -> bool {
        let known = self.known.as_ref().map(|(settings, _)| settings.operation);
        SystemSettings::of(system).operation.or(known) == Some(Operation::Boot)
    }

    fn is_reachable(&mut self) -> bool {
        let Ok((settings, identity)) = usable(&self.known, self.environment) else {
            return false;
        };
        // If it seems to be away, the network isn't proven afterwards: one packet that was lost mustn't decide that.
        for _ in 1..REACH_TRIES {
            if poll::poll(settings, identity).is_ok() {
                return true;
            }
            std::thread::sleep(LOOK);
        }
        poll::poll(settings, identity).is_ok()
    }

    fn failed_units(&mut self) -> Vec<String> {
        switch::failed_units(self.machine)
    }

    fn arm(&mut self, journal: &Journal) -> anyhow::Result<()> {
        let old = journal.before.running.as_ref();
        let old = old.context("nothing is known that the machine could go back to")?;
        let after = usable(&self.known, self.environment)?
            .0
            .rollback
            .after
            .duration();
        rollback_timer::arm(
            self.machine,
            self.state,
            journal.run,
            old,
            after,
            &self.environment.arguments,
        )?;
        self.inhibitor = Inhibitor::new();
        Ok(())
    }

    fn decision(&mut self, run: RunId) -> anyhow::Result<Option<Decision>> {
        rollback_timer::decision(self.state, run)
    }

    fn decide(&mut self, run: RunId, decision: Decision) -> anyhow::Result<bool> {
        let decided = rollback_timer::decide(self.state, run, decision)?;
        if decided && decision == Decision::Committed {
            // What is left to do, to tell the appliance, survives a shutdown, and may take long.
            self.inhibitor = None;
        }
        Ok(decided)
    }

    fn disarm(&mut self, run: RunId) {
        let disarmed = rollback_timer::disarm(self.machine, self.state, run);
        self.warn_of(disarmed);
        self.inhibitor = None;
    }

    fn lock_rollback(&mut self) -> anyhow::Result<RollbackLock> {
        self.state.lock_rollback()
    }

    fn note_rolled_back(&mut self, run: RunId) -> anyhow::Result<()> {
        rollback_timer::note_rolled_back(self.state, run)?;
        self.inhibitor = None;
        Ok(())
    }

    fn switch_secrets(&mut self, generation: Option<GenerationId>) -> anyhow::Result<()> {
        secrets::switch_to(self.state, generation.as_ref())
    }

    fn secrets_differ(&mut self, from: Option<GenerationId>, to: GenerationId) -> bool {
        let changed = secrets::changed(self.state, from.as_ref(), &to);
        self.warn_of(changed)
            .is_none_or(|changed| !changed.is_empty())
    }

    fn restart_units(
        &mut self,
        from: Option<GenerationId>,
        to: GenerationId,
    ) -> anyhow::Result<()> {
        let changed = secrets::changed(self.state, from.as_ref(), &to)?;
        if changed.is_empty() || !self.machine.has_systemd() {
            return Ok(());
        }
        // Those of the system that has just begun to run.
        let settings = Settings::read(&self.environment.config).ok();
        let settings = settings
            .as_ref()
            .or(self.known.as_ref().map(|known| &known.0));
        let Some(settings) = settings else {
            return Ok(());
        };
        secrets::restart_units(&settings.restart_units, &changed, &mut |line| {
            self.console.line(line);
        })
    }

    fn switch(
        &mut self,
        run: RunId,
        system: &SystemPath,
        action: Action,
    ) -> Result<Switched, SwitchError> {
        let (console, tail) = (&mut self.console, &mut self.tail);
        switch::switch(self.machine, self.state, run, system, action, &mut |line| {
            tail.push(line);
            console.line(line);
        })
    }

    fn stop_switch(&mut self, run: RunId) {
        let stopped = switch::stop(self.machine, self.state, run);
        self.warn_of(stopped);
        // What a switch said whose client died before it could tell.
        if let Ok(log) = std::fs::read_to_string(self.state.activation_log()) {
            log.lines().for_each(|line| self.tail.push(line));
        }
    }

    fn set_profile(&mut self, system: &SystemPath) -> anyhow::Result<()> {
        let console = &mut self.console;
        let mut line = |line: &str| console.line(line);
        switch::set_profile(self.machine, system, &mut line)?;
        let Some((settings, _)) = &self.known else {
            return Ok(());
        };
        let removed = disk::remove_old_systems(&settings.disk, self.machine, &mut line);
        // They go the next time.
        self.warn_of(removed);
        Ok(())
    }

    fn confirm(
        &mut self,
        was_reachable: bool,
        after_boot: bool,
    ) -> Result<Vec<String>, Unconfirmed> {
        let known = usable(&self.known, self.environment).map_err(|error| Unconfirmed {
            error,
            is_passing: true,
        })?;
        let must_carry_on = known.0.guard && !self.force;
        let mut proof = confirm::Proof::of(self.environment, known, must_carry_on, after_boot)?;
        let (console, tail) = (&mut self.console, &mut self.tail);
        let mut line = |text: &str| {
            tail.push(text);
            console.line(text);
        };
        let connection = match was_reachable {
            true => Some(proof.reach()?),
            false => None,
        };
        if must_carry_on {
            proof.build(&mut line)?;
        }
        proof.check_health(self.machine, &mut line)?;
        self.connection = connection;
        Ok(proof.warnings)
    }

    fn report(&mut self, report: Report) -> bool {
        let dropped = match Spool::new(self.state).add(&report) {
            Ok(dropped) => dropped,
            Err(error) => return self.tell_without_keeping(report, &error),
        };
        if dropped > 0 {
            self.warn(&format!(
                "too many reports wait: the {dropped} oldest were dropped"
            ));
        }
        self.remember_run(&report);
        let begun = Instant::now();
        let is_patient = report.outcome == Outcome::RolledBack;
        loop {
            let is_over = !is_patient || begun.elapsed() >= NETWORK_COMES_BACK;
            if is_over || self.try_to_deliver().is_ok() {
                self.deliver();
                return true;
            }
            self.hang_up();
            std::thread::sleep(LOOK);
        }
    }

    fn reboot(&mut self) -> anyhow::Result<()> {
        self.inhibitor = None;
        let boots = self.machine.situation().profile;
        let own = boots.and_then(|system| SystemSettings::of(&system).kexec);
        // What goes back without settings goes the whole way.
        let known = self.known.as_ref();
        let kexec = own.unwrap_or_else(|| known.is_some_and(|(known, _)| known.reboot.kexec));
        reboot::reboot(self.machine, kexec)
    }

    fn may_reboot(&mut self, policy: &Policy) -> bool {
        reboot::may(policy.terms(), reboot::local_time())
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
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

impl From<Staged> for Source {
    fn from(staged: Staged) -> Self {
        Source {
            config: staged.config.clone(),
            staged,
        }
    }
}

impl LiveEffects<'_> {
    fn record_installed(&mut self, installed: &Installed) -> anyhow::Result<()> {
        record::write(&self.state.installed(), installed)?;
        let is_fallback_needed = self.machine.situation().reboot_required;
        let fallback = self.recorded().fallback.filter(|_| is_fallback_needed);
        let kept = [Some(installed.generation), fallback.map(|it| it.generation)];
        let kept: Vec<_> = kept.into_iter().flatten().collect();
        staged::remove_all_but(self.state, &kept)
    }

    /// A disk that is full is no reason to be silent, unless older reports wait: they come first.
    fn tell_without_keeping(&mut self, report: Report, error: &anyhow::Error) -> bool {
        self.warn(&format!("the report can't be kept: {error:#}"));
        if !self.deliver() {
            return false;
        }
        // The next start may tell of this run again, and of a run the appliance counts only the first report.
        let report = Report {
            run: RunId::now(),
            ..report
        };
        let mut told = || {
            let known = usable(&self.known, self.environment)?;
            let connection = connection(&mut self.connection, known)?;
            // What it was told before is no longer what it knows, and that must be so even if nothing can be written.
            atomic_file::remove_if_there(&self.state.delivered())?;
            delivery::tell(connection, &report)?;
            // Otherwise it is told again by the next run.
            let _ = delivery::note(self.state, &report, connection.server());
            Ok(())
        };
        let told: anyhow::Result<()> = told();
        self.warn_of(told).is_some()
    }

    fn remember_run(&mut self, report: &Report) {
        let path = self.state.history();
        let mut runs: Vec<PastRun> = self.read(&path).unwrap_or_default();
        runs.push(PastRun::by(report));
        let too_many = runs.len().saturating_sub(PastRun::KEPT);
        runs.drain(..too_many);
        let remembered = record::write(&path, &runs);
        self.warn_of(remembered);
    }
}
