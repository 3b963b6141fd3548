//! Effects of a transaction on the machine in memory.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::anyhow;
use bento_protocol::{GenerationId, Phase, Policy, Reboot, Report, RunId, SystemPath};
use jiff::Timestamp;

use super::super::{Inputs, MachineEffects, RecordEffects, ServerEffects};
use super::effects::{NO_BUILD, SERVER};
use super::fake::{Course, Fake, TIME_TO_CONFIRM};
use super::machine::{CONSOLE, Nature, console_of, name, system};
use crate::generation::pull::PullError;
use crate::machine::rollback_timer::Decision;
use crate::machine::switch::{Action, SwitchError, Switched};
use crate::machine::{Rejection, Situation};
use crate::state::record::{Journal, Record, Recorded, ReportedState};

/// A generation in place, and how old its inputs are.
#[derive(Debug)]
pub(super) struct Source {
    generation: GenerationId,
    inputs: u8,
    policy: Policy,
}

impl AsRef<Policy> for Source {
    fn as_ref(&self) -> &Policy {
        &self.policy
    }
}

impl Fake {
    fn source(&self, generation: GenerationId) -> Source {
        Source {
            generation,
            inputs: 0,
            policy: self.server.policy(generation),
        }
    }
}

/// The lock of those who go back.
#[derive(Debug)]
pub(super) struct RollbackLock(Rc<Cell<bool>>);

impl Drop for RollbackLock {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

fn digits(generation: GenerationId) -> String {
    generation.to_string()[..2]
        .trim_start_matches('0')
        .to_owned()
}

fn short(generation: Option<GenerationId>) -> String {
    match generation.map(digits) {
        Some(digits) if digits.is_empty() => "0".to_owned(),
        Some(digits) => digits,
        None => "-".to_owned(),
    }
}

impl RecordEffects for Fake {
    fn recorded(&mut self) -> Recorded {
        let disk = &self.disk;
        Recorded {
            installed: disk.installed.clone(),
            fallback: disk.fallback.clone(),
            awaiting: disk.awaiting.clone(),
            failed: disk.failed.clone(),
            journal: disk.journal.clone(),
            rebooted: disk.rebooted.clone(),
        }
    }

    fn record(&mut self, record: Record<'_>) -> anyhow::Result<()> {
        let name = match record {
            Record::Installed(installed) => {
                format!("installed {}", short(Some(installed.generation)))
            }
            Record::Fallback(installed) => {
                format!("record fallback {}", short(Some(installed.generation)))
            }
            Record::Awaiting(awaiting) => {
                let generation = awaiting.map(|awaiting| awaiting.installed.generation);
                format!("record awaiting {}", short(generation))
            }
            Record::Failed(failed) => {
                format!(
                    "record failed {}",
                    short(failed.map(|failed| failed.generation))
                )
            }
            Record::Journal(journal) => {
                let phase = journal.map_or("nothing", |journal| journal.phase.as_str());
                format!("record journal {phase}")
            }
            Record::Rebooted(_) => "record rebooted".to_owned(),
        };
        let is_fallback_needed = self.situation().reboot_required;
        self.try_to(name, |fake| match record {
            Record::Installed(installed) => {
                fake.disk.installed = Some(installed.clone());
                let fallback = fake.disk.fallback.as_ref().filter(|_| is_fallback_needed);
                let kept = [Some(installed.generation), fallback.map(|it| it.generation)];
                let is_kept = |staged: &GenerationId| kept.contains(&Some(*staged));
                fake.disk.staged.retain(is_kept);
            }
            Record::Fallback(installed) => fake.disk.fallback = Some(installed.clone()),
            Record::Awaiting(awaiting) => fake.disk.awaiting = awaiting.cloned(),
            Record::Failed(failed) => fake.disk.failed = failed.cloned(),
            Record::Journal(journal) => fake.disk.journal = journal.cloned(),
            Record::Rebooted(rebooted) => fake.disk.rebooted = Some(rebooted.clone()),
        })
    }

    fn reported(&mut self) -> Option<ReportedState> {
        let newest = self.disk.spool.last().map(ReportedState::of);
        newest.or_else(|| self.disk.delivered.clone()?.remembered(SERVER, self.clock))
    }
}

impl ServerEffects for Fake {
    type Base = ();
    type Pulled = GenerationId;
    type Verified = GenerationId;
    type Staged = Source;

    fn poll(&mut self) -> anyhow::Result<GenerationId> {
        self.try_to("poll", |_| {})?;
        self.is_connected = self.is_reachable_now();
        anyhow::ensure!(self.is_connected, "unreachable");
        Ok(super::machine::id(self.server.published))
    }

    fn is_reachable(&mut self) -> bool {
        self.hang_up();
        let result = self.try_to("reach the appliance", |_| {});
        result.is_ok() && self.is_reachable_now()
    }

    fn hang_up(&mut self) {
        self.is_connected = false;
    }

    fn report(&mut self, report: Report) -> bool {
        self.check_report(&report);
        self.effect(
            format!("report {}", report.outcome.as_str()),
            2,
            |fake, course| {
                if course == Course::Fails(0) {
                    return false;
                }
                fake.disk.spool.push(report);
                if course == Course::Whole {
                    fake.deliver_now();
                }
                true
            },
        )
    }

    fn deliver(&mut self) -> bool {
        self.effect("deliver", 1, |fake, course| {
            course == Course::Whole && fake.deliver_now()
        })
    }

    fn staged(&mut self, generation: GenerationId) -> anyhow::Result<Option<Source>> {
        self.try_to("find what is staged", |_| {})?;
        let is_staged = self.disk.staged.contains(&generation);
        Ok(is_staged.then(|| self.source(generation)))
    }

    fn policy(&mut self, generation: GenerationId) -> Option<Policy> {
        let is_staged = self.disk.staged.contains(&generation);
        is_staged.then(|| self.server.policy(generation))
    }

    fn base(&mut self, generation: GenerationId) -> Option<()> {
        self.disk
            .staged
            .iter()
            .any(|staged| *staged != generation)
            .then_some(())
    }

    fn pull(
        &mut self,
        generation: GenerationId,
        base: Option<()>,
    ) -> Result<GenerationId, PullError> {
        let name = base.map_or("pull the bundle", |()| "pull a delta");
        self.effect(name, 4, |fake, course| {
            fake.is_connected |= fake.is_reachable_now();
            match course {
                Course::Fails(0) => Err(PullError::Missing(name.into())),
                Course::Fails(1) => Err(PullError::Unverified(anyhow!("tampered"))),
                Course::Fails(2) => Err(PullError::Local(anyhow!("full"))),
                _ if course == Course::Whole && fake.is_connected => Ok(generation),
                _ => Err(PullError::Lost(anyhow!("gone"))),
            }
        })
    }

    fn verify(&mut self, pulled: GenerationId) -> Result<GenerationId, PullError> {
        self.effect("verify", 2, |_, course| match course {
            Course::Whole => Ok(pulled),
            Course::Fails(0) => Err(PullError::Unverified(anyhow!("tampered"))),
            _ => Err(PullError::Local(anyhow!("unreadable"))),
        })
    }

    fn stage(&mut self, generation: GenerationId, keep: &[GenerationId]) -> anyhow::Result<Source> {
        self.try_to("stage", |fake| {
            fake.disk.staged.retain(|staged| keep.contains(staged));
            fake.disk.staged.insert(generation);
        })?;
        Ok(self.source(generation))
    }
}

impl MachineEffects for Fake {
    type Source = Source;
    type RollbackLock = RollbackLock;

    fn now(&mut self) -> Timestamp {
        self.clock
    }

    fn wait(&mut self, time: Duration) {
        self.clock += time;
        self.done.push("wait".to_owned());
    }

    fn show(&mut self, _: &Phase, _: &str) {}

    fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }

    fn situation(&mut self) -> Situation {
        self.machine.situation(&self.server, self.clock)
    }

    fn failed_units(&mut self) -> Vec<String> {
        let runs_it = self.server.nature(&self.machine.running) == Nature::UnitFails;
        let own = runs_it.then(|| "own.service".to_owned());
        self.machine.failing.iter().cloned().chain(own).collect()
    }

    fn is_in_store(&mut self, system: &SystemPath) -> bool {
        !self.machine.collected.contains(system)
    }

    fn specialisation(&mut self, system: &SystemPath, name: &str) -> Option<SystemPath> {
        let has_it = self.server.system(system).has_console && name == CONSOLE;
        has_it.then(|| console_of(system))
    }

    fn takes_effect_at_boot(&mut self, system: &SystemPath) -> bool {
        self.server.system(system).is_for_boot
    }

    fn self_update_is_due(&mut self) -> bool {
        true
    }

    fn inputs(&mut self, source: &mut Source, moves: bool) -> anyhow::Result<Inputs> {
        match moves {
            true => self.effect("move the inputs", 1, |fake, course| {
                anyhow::ensure!(course == Course::Whole, NO_BUILD);
                source.inputs = fake.server.inputs;
                Ok(())
            })?,
            false => self.try_to("read the inputs", |_| {})?,
        }
        Ok(Inputs {
            mark: Self::mark_of(source.inputs),
            are_pinned: !self.server.generation(source.generation).is_unpinned,
        })
    }

    fn make_room(&mut self) -> anyhow::Result<()> {
        self.try_to("make room", |_| {})
    }

    fn build(&mut self, source: &Source) -> anyhow::Result<SystemPath> {
        assert!(!self.is_connected, "the appliance waits for a build");
        self.effect("build", 1, |fake, course| {
            let path = system(
                fake.server.generation(source.generation).system,
                source.inputs,
            );
            match course {
                Course::Whole if fake.server.nature(&path) == Nature::BuildFails => {
                    Err(anyhow!(NO_BUILD))
                }
                Course::Whole if fake.server.nature(&fake.machine.running) == Nature::BreaksNix => {
                    Err(anyhow!(NO_BUILD))
                }
                Course::Whole => Ok(path),
                _ => Err(anyhow!(NO_BUILD)),
            }
        })
    }

    fn check(&mut self, system: &SystemPath) -> Result<(), Rejection> {
        let result = self.try_to("guard", |_| {});
        self.is_blamed |= result.is_err();
        let checked = result.and_then(|()| {
            let is_refused = self.server.nature(system) == Nature::Refused;
            anyhow::ensure!(!is_refused, "there is no timer");
            Ok(())
        });
        checked.map_err(|error| Rejection {
            source: error,
            retry: false,
        })?;
        let room = self.try_to("check the room in /boot", |_| {});
        Ok(room?)
    }

    fn arm(&mut self, journal: &Journal) -> anyhow::Result<()> {
        let run = journal.run;
        self.effect("arm", 1, |fake, course| {
            anyhow::ensure!(
                !matches!(course, Course::Fails(_)),
                "there is no systemd-run"
            );
            fake.disk.decisions.insert(run, Decision::Armed);
            if course == Course::Whole {
                fake.machine.timer = Some((run, fake.uptime + TIME_TO_CONFIRM));
            }
            Ok(())
        })
    }

    fn decision(&mut self, run: RunId) -> anyhow::Result<Option<Decision>> {
        self.try_to("read the decision", |_| {})?;
        Ok(self.disk.decisions.get(&run).copied())
    }

    fn decide(&mut self, run: RunId, decision: Decision) -> anyhow::Result<bool> {
        let (name, from) = match decision {
            Decision::RolledBack => ("record rolled back".to_owned(), Decision::RollingBack),
            _ => (format!("decide {decision:?}"), Decision::Armed),
        };
        let mut is_decided = false;
        self.try_to(name, |fake| is_decided = fake.turn(run, from, decision))?;
        Ok(is_decided)
    }

    fn disarm(&mut self, run: RunId) {
        self.effect("disarm", 0, |fake, course| {
            fake.disk.decisions.remove(&run);
            if course == Course::Whole {
                fake.machine.timer.take_if(|(timer, _)| *timer == run);
            }
        });
    }

    fn lock_rollback(&mut self) -> anyhow::Result<RollbackLock> {
        self.try_to("lock", |_| {})?;
        let lock = &self.is_rollback_locked;
        assert!(!lock.replace(true), "two go back at a time");
        Ok(RollbackLock(lock.clone()))
    }

    fn switch_secrets(&mut self, generation: Option<GenerationId>) -> anyhow::Result<()> {
        self.try_to(format!("secrets {}", short(generation)), |fake| {
            fake.put_secrets(generation);
        })
    }

    fn secrets_differ(&mut self, from: Option<GenerationId>, to: GenerationId) -> bool {
        let version = |generation| self.server.generation(generation).secrets;
        from.map(version) != Some(version(to))
    }

    fn restart_units(
        &mut self,
        from: Option<GenerationId>,
        to: GenerationId,
    ) -> anyhow::Result<()> {
        if self.secrets_differ(from, to) {
            self.simply("restart units", |fake| {
                fake.machine.secrets_in_use = fake.secrets_version();
            });
        }
        Ok(())
    }

    fn switch(
        &mut self,
        _: RunId,
        system: &SystemPath,
        action: Action,
    ) -> Result<Switched, SwitchError> {
        let name = name(system);
        match action {
            Action::Test | Action::Return => {
                self.effect(format!("test {name}"), 6, |fake, course| {
                    fake.switch_to(system, action, course)
                })
            }
            Action::Boot | Action::BootAgain => {
                self.effect(format!("boot {name}"), 3, |fake, course| {
                    fake.boot_into(system, course)
                })
            }
        }
    }

    fn stop_switch(&mut self, _: RunId) {
        self.simply("stop the switch", |fake| fake.machine.switching = None);
    }

    fn set_profile(&mut self, system: &SystemPath) -> anyhow::Result<()> {
        self.try_to(format!("profile {}", name(system)), |fake| {
            fake.machine.profile = system.clone();
        })
        .inspect_err(|_| self.is_blamed = true)
    }

    fn confirm(&mut self, was_reachable: bool, _: bool) -> Result<Vec<String>, Rejection> {
        self.effect("confirm", 2, |fake, course| {
            let rejection = |why: &str, retry| {
                Err(Rejection {
                    source: anyhow!(why.to_owned()),
                    retry,
                })
            };
            fake.is_blamed |= course == Course::Fails(1);
            let is_lost = was_reachable && !fake.is_reachable_now();
            if course == Course::Fails(0) || is_lost {
                return rejection("the appliance can't be reached", true);
            }
            let nature = fake.server.nature(&fake.machine.running);
            let is_ill = matches!(nature, Nature::Unhealthy | Nature::BreaksNix);
            if course != Course::Whole || is_ill {
                return rejection("it isn't healthy", false);
            }
            fake.is_connected = was_reachable;
            Ok(Vec::new())
        })
    }

    fn may_reboot(&mut self, policy: &Policy) -> bool {
        policy.terms().reboot == Reboot::Immediate
    }

    fn reboot(&mut self) -> anyhow::Result<()> {
        let is_inhibited = self.machine.is_inhibited;
        self.try_to("reboot", |fake| fake.machine.is_going_down = !is_inhibited)?;
        anyhow::ensure!(!is_inhibited, "the reboot waits for somebody's work");
        Ok(())
    }
}
