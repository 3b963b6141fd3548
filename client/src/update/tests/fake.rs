//! A machine in memory, in which anything can fail at any time.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use bento_protocol::{GenerationId, Report};
use jiff::{SignedDuration, Timestamp};

use super::super::{
    BootEvent, BootState, UpdateOptions, recover, roll_back, secrets_of_boot, update,
};
use super::machine::{Disk, Generation, Machine, Nature, Server, System, console_of, id, system};
use crate::exit::{ExitReason, Failure};
use crate::machine::rollback_timer::Decision;
use crate::state::record::Installed;

/// Minutes without a confirmation until the old system comes back.
pub(super) const TIME_TO_CONFIRM: i64 = 5;

/// Fault at one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, in the way of that number.
    Error(usize),
    /// The client dies, and perhaps the whole machine, which boots again.
    Death { when: When, reboots: bool },
    /// Just before, the time of what is armed is over: another process goes back while this one goes on. That process
    /// may die as soon as it has decided to.
    Timer { dies: bool },
    /// From here on the disk is full: nothing can be recorded or reported, and no new system made the one that boots.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    Amid,
    After,
}

/// Course of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    Whole,
    /// The client doesn't live to see the end.
    Half,
    Fails(usize),
}

fn takes_room(effect: &str) -> bool {
    let records = effect.starts_with("record journal") && effect != "record journal nothing";
    records || effect.starts_with("report") || effect == "boot 1"
}

/// The death of a client, thrown through the code that is tested.
struct Death;

/// A run's end; none if it died.
pub(super) type Ended = Option<Result<(), ExitReason>>;

#[derive(Debug, Clone)]
pub(super) struct Fake {
    pub(super) server: Server,
    pub(super) disk: Disk,
    pub(super) machine: Machine,
    pub(super) clock: Timestamp,
    /// Minutes, which no change of the clock touches.
    pub(super) uptime: i64,
    /// Effects since the start of the last run, in order.
    pub(super) done: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// In how many ways each effect of the last run could fail.
    pub(super) effects: Vec<usize>,
    /// Fault of the next run, and the index of its effect.
    pub(super) fault: Option<(usize, Fault)>,
    /// Whether an invented error seems to be a generation's own fault.
    pub(super) is_blamed: bool,
    pub(super) is_connected: bool,
    pub(super) is_rollback_locked: Rc<Cell<bool>>,
    is_client_alive: bool,
    /// Whether what acts is the process of the timer.
    is_timer: bool,
}

impl Fake {
    /// A machine on which generation 0 was installed long ago, which is still what is published.
    pub(super) fn new() -> Self {
        let (old, generation) = (system(0, 0), id(0));
        Fake {
            server: Server {
                systems: vec![System::default()],
                generations: vec![Generation::default()],
                ..Server::default()
            },
            disk: Disk {
                installed: Some(Installed {
                    generation,
                    system: old.clone(),
                    mark: Some(Self::mark_of(0)),
                    auto: false,
                    previous: None,
                    previous_boots: None,
                }),
                staged: [generation].into(),
                secrets: Some(generation),
                ..Disk::default()
            },
            machine: Machine::new(old),
            clock: "2026-11-23T12:00:00Z".parse().unwrap(),
            uptime: 0,
            done: Vec::new(),
            warnings: Vec::new(),
            effects: Vec::new(),
            fault: None,
            is_blamed: false,
            is_connected: false,
            is_rollback_locked: Rc::default(),
            is_client_alive: false,
            is_timer: false,
        }
    }

    /// The same, and a generation of that nature is published.
    pub(super) fn with(nature: Nature) -> Self {
        let mut fake = Fake::new();
        fake.publish(nature);
        fake
    }

    /// Publishes a new system with the secrets and the terms of the last generation.
    pub(super) fn publish(&mut self, nature: Nature) -> GenerationId {
        let kernel = self.server.systems.last().unwrap().kernel;
        self.server.systems.push(System {
            nature,
            kernel,
            has_console: false,
            is_for_boot: false,
        });
        let system = self.server.systems.len() - 1;
        self.publish_with(|generation| generation.system = system)
    }

    /// Publishes the last generation with a change.
    pub(super) fn publish_with(&mut self, change: impl FnOnce(&mut Generation)) -> GenerationId {
        let mut generation = self.server.generations.last().unwrap().clone();
        change(&mut generation);
        self.server.generations.push(generation);
        self.server.published = self.server.generations.len() - 1;
        id(self.server.published)
    }

    /// The generation before the last is published again.
    pub(super) fn publish_again(&mut self) {
        self.server.published = self.server.generations.len().saturating_sub(2);
    }

    /// The newest system has another kernel than those before.
    pub(super) fn with_kernel(mut self, kernel: u8) -> Self {
        self.server.systems.last_mut().unwrap().kernel = kernel;
        self
    }

    /// All systems have a specialisation, and that of the one that runs was switched to.
    pub(super) fn specialised(mut self) -> Self {
        for system in &mut self.server.systems {
            system.has_console = true;
        }
        self.machine.running = console_of(&self.machine.running);
        self
    }

    pub(super) fn with_fault(mut self, effect: usize, fault: Fault) -> Self {
        self.fault = Some((effect, fault));
        self
    }

    /// The same at the first effect of that name, which a run without faults finds.
    pub(super) fn with_fault_at(self, name: &str, fault: Fault) -> Self {
        let mut trial = self.clone();
        trial.is_rollback_locked = Rc::default();
        assert!(trial.update().is_some());
        let effect = trial.done.iter().position(|done| done == name);
        let effect = effect.unwrap_or_else(|| panic!("no {name:?} in {:?}", trial.done));
        self.with_fault(effect, fault)
    }

    pub(super) fn update(&mut self) -> Ended {
        self.update_with(UpdateOptions::default())
    }

    pub(super) fn update_with(&mut self, options: UpdateOptions) -> Ended {
        self.start(|fake| update(fake, options))
    }

    /// Runs a client's process until it ends or dies.
    pub(super) fn start(&mut self, run: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Ended {
        self.done.clear();
        self.warnings.clear();
        self.effects.clear();
        self.is_client_alive = true;
        let ended = catch_unwind(AssertUnwindSafe(|| run(self)));
        self.is_client_alive = false;
        self.is_connected = false;
        self.fault = None;
        assert!(
            !self.is_rollback_locked.get(),
            "a lock outlives its process"
        );
        let ended = match ended {
            Ok(result) => Some(result.map_err(|failure| failure.reason)),
            Err(payload) => Self::death(payload),
        };
        if self.machine.is_going_down {
            self.reboot_machine();
        }
        ended
    }

    /// Any other panic is a test's.
    fn death<T>(payload: Box<dyn Any + Send>) -> Option<T> {
        if !payload.is::<Death>() {
            resume_unwind(payload);
        }
        None
    }

    /// An effect that acts upon something or can fail.
    pub(super) fn effect<T>(
        &mut self,
        name: impl Into<String>,
        ways_to_fail: usize,
        act: impl FnOnce(&mut Self, Course) -> T,
    ) -> T {
        if self.is_timer || !self.is_client_alive {
            self.done.push(format!("timer: {}", name.into()));
            return act(self, Course::Whole);
        }
        let name = name.into();
        let at_once = self.done_by_client();
        let fault = self.fault.filter(|(at, fault)| match fault {
            Fault::Full => at_once >= *at && takes_room(&name),
            _ => at_once == *at,
        });
        self.effects.push(ways_to_fail);
        let fault = fault.map(|(_, fault)| fault);
        if let Some(Fault::Timer { dies }) = fault {
            self.time_is_over(dies);
        }
        let (course, death) = match fault {
            Some(Fault::Error(way)) if way < ways_to_fail => (Course::Fails(way), None),
            Some(Fault::Full) => (Course::Fails(0), None),
            Some(Fault::Death { when, reboots }) => (Course::Half, Some((when, reboots))),
            _ => (Course::Whole, None),
        };
        if let Some((When::Before, reboots)) = death {
            self.die(reboots);
        }
        self.done.push(name);
        match death {
            Some((When::Amid, reboots)) => {
                act(self, Course::Half);
                self.die(reboots)
            }
            Some((_, reboots)) => {
                act(self, Course::Whole);
                self.die(reboots)
            }
            None => act(self, course),
        }
    }

    fn done_by_client(&self) -> usize {
        self.effects.len()
    }

    fn die(&mut self, reboots: bool) -> ! {
        if reboots {
            self.reboot_machine();
        }
        // Unlike a panic it prints nothing.
        resume_unwind(Box::new(Death))
    }

    /// The machine goes down and comes up, and switches its secrets before its services start.
    pub(super) fn reboot_machine(&mut self) {
        let before = self.boot_state();
        self.machine.boot(&self.server);
        self.check_boot(before);
        let secrets = secrets_of_boot(
            self.disk.installed.as_ref(),
            self.disk.awaiting.as_ref(),
            self.disk.journal.as_ref(),
            &self.machine.situation(&self.server, self.clock),
        );
        self.put_secrets(secrets);
        self.machine.secrets_in_use = self.secrets_version();
    }

    fn boot_state(&self) -> BootState {
        let situation = self.machine.situation(&self.server, self.clock);
        BootState::of(self.disk.awaiting.as_ref(), &situation)
    }

    /// A boot leads where the table of states says.
    fn check_boot(&self, before: BootState) {
        let Some(awaiting) = &self.disk.awaiting else {
            return;
        };
        let event = match self.machine.running == awaiting.installed.system {
            true => BootEvent::NewBoots,
            false => BootEvent::OtherBoots,
        };
        // It was stuck before it fell back.
        let is_stuck = before == BootState::FellBack && awaiting.is_stuck;
        if !is_stuck {
            assert_eq!(
                self.boot_state(),
                before.after(event),
                "{before:?}, {event:?}: {self:#?}"
            );
        }
    }

    /// Without the generation in place there is nothing to lead to.
    pub(super) fn put_secrets(&mut self, generation: Option<GenerationId>) {
        let staged = &self.disk.staged;
        self.disk.secrets = generation.filter(|generation| staged.contains(generation));
    }

    pub(super) fn secrets_version(&self) -> Option<u8> {
        let generation = self.disk.secrets?;
        Some(self.server.generation(generation).secrets)
    }

    /// The armed timer elapses, if one is armed.
    pub(super) fn time_is_over(&mut self, dies: bool) {
        let Some((run, _)) = self.machine.timer.take() else {
            return;
        };
        if self.disk.decisions.get(&run) != Some(&Decision::Armed) {
            return;
        }
        if dies {
            self.disk.decisions.insert(run, Decision::RollingBack);
            return;
        }
        let journal = self.disk.journal.clone();
        let Some(journal) = journal.filter(|journal| journal.run == run) else {
            return;
        };
        self.is_timer = true;
        let has_gone_back = roll_back(self, &journal).unwrap();
        if has_gone_back && !self.is_client_alive {
            recover(self);
        }
        self.is_timer = false;
    }

    /// Lets time pass while no client runs.
    pub(super) fn pass(&mut self, minutes: i64) {
        self.uptime += minutes;
        self.clock += SignedDuration::from_mins(minutes);
        if let Some(system) = self.machine.switching.take() {
            self.machine.running = system;
            self.machine.is_half = false;
        }
        if self.machine.timer.is_some_and(|(_, at)| at <= self.uptime) {
            self.time_is_over(false);
        }
    }

    pub(super) fn is_reachable_now(&self) -> bool {
        let has_network = match self.server.nature(&self.machine.running) {
            Nature::KillsNetwork => false,
            Nature::LosesNetwork => self.machine.booted != self.machine.running,
            _ => true,
        };
        has_network && !self.server.is_down
    }

    /// The newest report that the server has.
    pub(super) fn newest_report(&self) -> &Report {
        self.server.reports.last().expect("nothing was reported")
    }

    /// Effects other than records.
    pub(super) fn acts(&self) -> Vec<&str> {
        let is_record = |done: &&str| done.starts_with("record ") || *done == "deliver";
        let done = self.done.iter().map(String::as_str);
        done.filter(|done| !is_record(done)).collect()
    }

    pub(super) fn did(&self, what: &str) -> bool {
        self.done.iter().any(|done| done == what)
    }
}
