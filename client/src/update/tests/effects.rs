//! Results of single effects on the machine in memory.

use anyhow::anyhow;
use bento_protocol::{Digest, RunId, SystemPath};

use super::fake::{Course, Fake};
use super::machine::{Nature, whole};
use crate::machine::rollback_timer::Decision;
use crate::machine::switch::{Action, SwitchError, Switched};
use crate::state::record::Delivered;

/// The address of the only server.
pub(super) const SERVER: &str = "bento.example.org:2222";

/// Nix's message for a failed build.
pub(super) const NO_BUILD: &str = "error: no such thing";

impl Fake {
    pub(super) fn mark_of(inputs: u8) -> Digest {
        Digest::of([inputs])
    }

    /// An effect that only a full disk or the like can hinder.
    pub(super) fn try_to(
        &mut self,
        name: impl Into<String>,
        act: impl FnOnce(&mut Self),
    ) -> anyhow::Result<()> {
        let name = name.into();
        self.effect(name.clone(), 1, |fake, course| match course {
            Course::Whole => {
                act(fake);
                Ok(())
            }
            _ => Err(anyhow!("can't {name}")),
        })
    }

    /// An effect that can't fail, or of which nobody would hear.
    pub(super) fn simply(&mut self, name: impl Into<String>, act: impl FnOnce(&mut Self)) {
        self.effect(name, 0, |fake, course| {
            if course == Course::Whole {
                act(fake);
            }
        });
    }

    /// Switches as far as it gets; the switch may continue by itself.
    pub(super) fn switch_to(
        &mut self,
        system: &SystemPath,
        action: Action,
        course: Course,
    ) -> Result<Switched, SwitchError> {
        if self.machine.switching.is_some() {
            return Err(SwitchError::Busy);
        }
        let nature = self.server.nature(system);
        let is_booted_only = |nature| nature == Nature::NeedsBoot;
        let running = self.server.nature(&self.machine.running);
        if is_booted_only(nature) != is_booted_only(running) {
            return Err(SwitchError::NeedsBoot);
        }
        let is_inhibited = |nature| nature == Nature::Inhibited;
        if is_inhibited(nature) != is_inhibited(running) && action == Action::Test {
            return Err(SwitchError::Inhibited("bus : one -> another".into()));
        }
        let failed = Err(SwitchError::Failed(anyhow!("exit code 1")));
        match course {
            Course::Fails(way) => self.is_blamed |= way != 2,
            Course::Half => self.machine.switching = Some(system.clone()),
            Course::Whole => {}
        }
        match course {
            Course::Fails(1) => return failed,
            Course::Fails(2) => return Err(SwitchError::Busy),
            Course::Fails(3) => return Err(SwitchError::NeedsBoot),
            Course::Fails(5) => return Err(SwitchError::Inhibited(String::new())),
            _ => {}
        }
        self.machine.running = system.clone();
        let is_halfway = matches!(course, Course::Half | Course::Fails(0));
        self.machine.is_half = is_halfway || nature == Nature::ActivationFails;
        self.machine.failing.retain(|unit| unit != "flaky.service");
        if course == Course::Fails(4) {
            self.machine.failing.push("flaky.service".to_owned());
        }
        if !self.machine.is_half {
            self.machine.ran.insert(whole(system));
        }
        match nature {
            _ if self.machine.is_half => failed,
            Nature::UnitFails => Ok(Switched::SomeUnitsFailed),
            _ if !self.machine.failing.is_empty() => Ok(Switched::SomeUnitsFailed),
            _ => Ok(Switched::Wholly),
        }
    }

    pub(super) fn boot_into(
        &mut self,
        system: &SystemPath,
        course: Course,
    ) -> Result<Switched, SwitchError> {
        if self.machine.switching.is_some() {
            return Err(SwitchError::Busy);
        }
        match course {
            Course::Fails(0) => self.machine.entries.push(system.clone()),
            Course::Fails(1) | Course::Half => {}
            Course::Fails(_) => return Err(SwitchError::Busy),
            Course::Whole => {
                self.machine.entries.push(system.clone());
                return Ok(Switched::Wholly);
            }
        }
        self.is_blamed = true;
        Err(SwitchError::Failed(anyhow!("no room in /boot")))
    }

    pub(super) fn deliver_now(&mut self) -> bool {
        self.is_connected |= self.is_reachable_now();
        if self.disk.spool.is_empty() {
            return true;
        }
        if !self.is_connected {
            return false;
        }
        for report in &self.disk.spool {
            let last = self.disk.delivered.take();
            self.disk.delivered = Some(Delivered::after(last, report, SERVER, self.clock));
        }
        self.server.receive(self.disk.spool.drain(..));
        true
    }

    pub(super) fn turn(&mut self, run: RunId, from: Decision, to: Decision) -> bool {
        let decision = self.disk.decisions.get_mut(&run);
        let Some(decision) = decision.filter(|decision| **decision == from) else {
            return false;
        };
        *decision = to;
        true
    }
}
