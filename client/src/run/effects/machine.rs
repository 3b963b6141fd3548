use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bento_protocol::{Digest, GenerationId, Phase, Policy, RunId, SystemPath};
use jiff::Timestamp;

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
use crate::machine::{Rejection, Situation};
use crate::run::{LiveEffects, StagedSource, known_systems, usable};
use crate::server::poll;
use crate::settings::{Operation, Settings, SystemSettings};
use crate::state::RollbackLock;
use crate::state::hold;
use crate::state::record;
use crate::state::record::Journal;
use crate::update::{Inputs, MachineEffects};

impl MachineEffects for LiveEffects<'_> {
    type Source = StagedSource;
    type RollbackLock = RollbackLock;

    fn now(&mut self) -> Timestamp {
        Timestamp::now()
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn show(&mut self, phase: &Phase, result: &str) {
        self.console.phase(phase, result);
    }

    fn warn(&mut self, warning: &str) {
        self.console.warn(warning);
    }

    fn situation(&mut self) -> Situation {
        Situation {
            held: hold::until(self.state, Timestamp::now()),
            ..self.machine.situation_with(|| known_systems(self.state))
        }
    }

    fn failed_units(&mut self) -> Vec<String> {
        switch::failed_units(self.machine)
    }

    fn is_in_store(&mut self, system: &SystemPath) -> bool {
        Path::new(system.as_str()).exists()
    }

    fn specialisation(&mut self, system: &SystemPath, name: &str) -> Option<SystemPath> {
        self.machine.specialisation(system, name)
    }

    fn takes_effect_at_boot(&mut self, system: &SystemPath) -> bool {
        let known = self.known.as_ref().map(|(settings, _)| settings.operation);
        SystemSettings::of(system).operation.or(known) == Some(Operation::Boot)
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

    fn inputs(&mut self, source: &mut StagedSource, moves: bool) -> anyhow::Result<Inputs> {
        let mark = match moves {
            true => self.move_inputs(source),
            false => inputs::mark_of(&source.config),
        };
        Ok(Inputs {
            mark: mark?,
            are_pinned: bento_nix::has_lock(&source.config),
        })
    }

    fn make_room(&mut self) -> anyhow::Result<()> {
        let settings = &usable(&self.known, self.environment)?.0;
        let console = &mut self.console;
        disk::make_room(&settings.disk, self.machine, &mut |line| console.line(line))
    }

    fn build(&mut self, source: &StagedSource) -> anyhow::Result<SystemPath> {
        self.nix_version = bento_nix::version().map(String::from);
        let published = build::BuildSource::published(self.state, &source.staged);
        let settings = &usable(&self.known, self.environment)?.0;
        let console = &mut self.console;
        build::build(
            settings,
            self.state,
            &build::BuildSource {
                config: &source.config,
                ..published
            },
            &mut self.tail,
            &mut |line| console.line(line),
        )
    }

    fn check(&mut self, system: &SystemPath) -> Result<(), Rejection> {
        let known = usable(&self.known, self.environment);
        let (settings, identity) = known?;
        if !self.force && settings.guard {
            guard::check(system, &settings.name, &mut |name| {
                let renamed = Settings {
                    name: name.clone(),
                    ..settings.clone()
                };
                poll::poll(&renamed, identity).map(drop)
            })?;
        }
        Ok(disk::boot_has_room(self.machine, system)?)
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
        // What is left to do, a report, survives a shutdown, and may take long.
        if decided && decision == Decision::Committed || decision == Decision::RolledBack {
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
        // The output of a switch whose client died before it could report it.
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

    fn confirm(&mut self, was_reachable: bool, after_boot: bool) -> Result<Vec<String>, Rejection> {
        let known = usable(&self.known, self.environment)?;
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

    fn may_reboot(&mut self, policy: &Policy) -> bool {
        reboot::may(policy.terms(), reboot::local_time())
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
}

impl LiveEffects<'_> {
    fn move_inputs(&mut self, source: &mut StagedSource) -> anyhow::Result<Digest> {
        let published = build::BuildSource::published(self.state, &source.staged);
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
}
