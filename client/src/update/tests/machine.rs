//! State that survives a crash: a machine, its disk, and its server.

use std::collections::{BTreeMap, BTreeSet};

use bento_protocol::{GenerationId, Policy, Report, RunId, SystemPath, Terms};
use jiff::Timestamp;

use crate::machine::rollback_timer::Decision;
use crate::machine::{BootId, Situation, Specialisation};
use crate::state::record::{Awaiting, Delivered, Failed, Installed, Journal, Rebooted};

/// Nature of a system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Nature {
    #[default]
    Good,
    BuildFails,
    /// It has no timer for the client.
    Refused,
    /// Neither switched to nor booted.
    ActivationFails,
    Unhealthy,
    KillsNetwork,
    /// Its kernel knows nothing of the machine's network: it works until it is booted.
    LosesNetwork,
    /// One of its units fails, and with it the switch says so.
    UnitFails,
    /// The boot loader goes back to the one before, unless this one has been switched to before: what
    /// works until it is booted is beyond a client that runs on it.
    NeverBoots,
    /// Its init is another one.
    NeedsBoot,
    /// It has another of what its own check doesn't let change while the machine runs.
    Inhibited,
    /// Its Nix builds nothing.
    BreaksNix,
}

/// A system, whichever generations lead to it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct System {
    pub(super) nature: Nature,
    pub(super) kernel: u8,
    /// Whether it has a specialisation.
    pub(super) has_console: bool,
    /// Whether it is to be booted, by its own settings.
    pub(super) is_for_boot: bool,
}

/// A published generation: a system and secrets.
#[derive(Debug, Clone, Default)]
pub(super) struct Generation {
    pub(super) system: usize,
    pub(super) secrets: u8,
    pub(super) terms: Terms,
    pub(super) is_unpinned: bool,
}

/// The fleet and the appliance.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) systems: Vec<System>,
    pub(super) generations: Vec<Generation>,
    pub(super) published: usize,
    pub(super) is_down: bool,
    /// As a fleet's appliance counts them: of each run the first.
    pub(super) reports: Vec<Report>,
    /// Newest inputs for a self-update.
    pub(super) inputs: u8,
}

/// State folder of the client.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) installed: Option<Installed>,
    pub(super) fallback: Option<Installed>,
    pub(super) awaiting: Option<Awaiting>,
    pub(super) failed: Option<Failed>,
    pub(super) journal: Option<Journal>,
    pub(super) rebooted: Option<Rebooted>,
    pub(super) spool: Vec<Report>,
    pub(super) delivered: Option<Delivered>,
    pub(super) decisions: BTreeMap<RunId, Decision>,
    pub(super) staged: BTreeSet<GenerationId>,
    pub(super) secrets: Option<GenerationId>,
}

/// The running system, and those that would boot.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) running: SystemPath,
    /// Systems that were switched to without a failure.
    pub(super) ran: BTreeSet<SystemPath>,
    /// Whether a switch ended halfway.
    pub(super) is_half: bool,
    /// A switch that goes on without its client, and its system.
    pub(super) switching: Option<SystemPath>,
    pub(super) booted: SystemPath,
    pub(super) profile: SystemPath,
    /// Entries of the boot loader: it boots the last of them, and goes back from one that doesn't come up.
    pub(super) entries: Vec<SystemPath>,
    pub(super) boots: usize,
    pub(super) is_going_down: bool,
    /// Whether somebody keeps it from going down.
    pub(super) is_inhibited: bool,
    /// Whose time is over when, in minutes since the start.
    pub(super) timer: Option<(RunId, i64)>,
    pub(super) held: Option<Timestamp>,
    /// Systems that garbage collection took.
    pub(super) collected: BTreeSet<SystemPath>,
    /// Units that fail whatever runs.
    pub(super) failing: Vec<String>,
    /// The secrets with which the units were started.
    pub(super) secrets_in_use: Option<u8>,
}

pub(super) fn id(generation: usize) -> GenerationId {
    format!("{generation:02x}").repeat(32).parse().unwrap()
}

fn number(id: GenerationId) -> usize {
    usize::from_str_radix(&id.to_string()[..2], 16).unwrap()
}

/// A system, as it is built with inputs of that age.
pub(super) fn system(system: usize, inputs: u8) -> SystemPath {
    format!("/nix/store/system-{system}-{inputs}")
        .parse()
        .unwrap()
}

/// The name of the only specialisation.
pub(super) const CONSOLE: &str = "console";

/// The specialisation of a system.
pub(super) fn console_of(system: &SystemPath) -> SystemPath {
    format!("{system}-{CONSOLE}").parse().unwrap()
}

/// A system, or what a specialisation is one of.
pub(super) fn whole(path: &SystemPath) -> SystemPath {
    let whole = path.as_str().strip_suffix("-console");
    whole.unwrap_or(path.as_str()).parse().unwrap()
}

pub(super) fn system_number(path: &SystemPath) -> usize {
    let mut words = path.as_str().split('-').skip(1);
    words.next().unwrap().parse().unwrap()
}

/// As the tests write them: the number, and the age of the inputs if they were moved.
pub(super) fn name(path: &SystemPath) -> String {
    let name = path.as_str().trim_start_matches("/nix/store/system-");
    name.trim_end_matches("-0").to_owned()
}

impl Server {
    pub(super) fn generation(&self, id: GenerationId) -> &Generation {
        &self.generations[number(id)]
    }

    pub(super) fn policy(&self, id: GenerationId) -> Policy {
        self.generation(id).terms.clone().into()
    }

    pub(super) fn system(&self, path: &SystemPath) -> System {
        self.systems[system_number(path)]
    }

    pub(super) fn nature(&self, path: &SystemPath) -> Nature {
        self.system(path).nature
    }

    /// Whether a system can be what a generation leads to.
    pub(super) fn leads(&self, generation: GenerationId, path: &SystemPath) -> bool {
        self.generation(generation).system == system_number(path)
    }

    /// Takes reports in.
    pub(super) fn receive(&mut self, reports: impl Iterator<Item = Report>) {
        for report in reports {
            if self.reports.iter().all(|known| known.run != report.run) {
                self.reports.push(report);
            }
        }
    }
}

impl Machine {
    pub(super) fn new(system: SystemPath) -> Self {
        Machine {
            running: system.clone(),
            ran: BTreeSet::new(),
            is_half: false,
            switching: None,
            booted: system.clone(),
            profile: system.clone(),
            entries: vec![system],
            boots: 1,
            is_going_down: false,
            is_inhibited: false,
            timer: None,
            held: None,
            collected: BTreeSet::new(),
            failing: Vec::new(),
            secrets_in_use: Some(0),
        }
    }

    /// The system that the boot loader tries first.
    pub(super) fn loader(&self) -> &SystemPath {
        self.entries.last().expect("it began with one")
    }

    pub(super) fn boot_id(&self) -> BootId {
        BootId::new(&self.boots.to_string())
    }

    pub(super) fn situation(&self, server: &Server, now: Timestamp) -> Situation {
        let kernel = |system| server.system(system).kernel;
        let running_whole = whole(&self.running);
        let specialisation = (self.running != running_whole).then(|| Specialisation {
            name: CONSOLE.to_owned(),
            of: vec![running_whole],
        });
        Situation {
            running: Some(self.running.clone()),
            specialisation,
            booted: Some(self.booted.clone()),
            profile: Some(self.profile.clone()),
            boot: self.boot_id(),
            reboot_required: kernel(&self.running) != kernel(&self.booted),
            held: self.held.filter(|until| *until > now),
            machine: None,
        }
    }

    /// Boots the newest entry of the boot loader that comes up; memory is lost.
    pub(super) fn boot(&mut self, server: &Server) {
        let comes_up = |system: &&SystemPath| {
            let nature = server.nature(system);
            let is_bad = matches!(nature, Nature::NeverBoots | Nature::ActivationFails);
            !is_bad || self.ran.contains(*system)
        };
        let newest = self.entries.iter().rev().find(comes_up);
        let newest = newest.expect("the first system comes up");
        self.booted = newest.clone();
        self.running = self.booted.clone();
        self.is_half = false;
        self.switching = None;
        self.is_going_down = false;
        self.timer = None;
        self.boots += 1;
    }
}
