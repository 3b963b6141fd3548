//! Random lives of a machine.

use bento_protocol::Reboot;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::{UpdateOptions, report_now};
use super::crashes::any_fault;
use super::fake::{Fake, Fault};
use super::machine::{Nature, console_of, whole};

/// Event in the life of a machine.
#[derive(Debug, Clone)]
enum Event {
    Publish(Publication),
    /// An earlier generation is published again.
    Return,
    /// New inputs for those who move on by themselves.
    Release,
    Update {
        fault: Option<(usize, Fault)>,
        at_boot: bool,
        retry: bool,
    },
    Reboot,
    /// Somebody asks for a report.
    Report,
    /// Somebody switches to the specialisation of what runs, or back from it.
    Specialise(bool),
    /// In minutes.
    Pass(i64),
    /// The clock is set, by so many hours.
    Jump(i64),
    Hold,
    LetGo,
    ServerDown(bool),
    /// Somebody keeps the machine from going down, or does no more.
    Inhibit(bool),
}

#[derive(Debug, Clone)]
struct Publication {
    /// None: only the secrets and the terms change.
    nature: Option<Nature>,
    has_new_secrets: bool,
    has_new_kernel: bool,
    reboots: bool,
    moves_by_itself: bool,
    has_console: bool,
    is_for_boot: bool,
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        4 => Just(Nature::Good),
        1 => Just(Nature::BuildFails),
        1 => Just(Nature::Refused),
        2 => Just(Nature::ActivationFails),
        2 => Just(Nature::Unhealthy),
        1 => Just(Nature::KillsNetwork),
        2 => Just(Nature::LosesNetwork),
        1 => Just(Nature::UnitFails),
        1 => Just(Nature::NeverBoots),
        2 => Just(Nature::NeedsBoot),
        2 => Just(Nature::Inhibited),
        1 => Just(Nature::BreaksNix),
    ]
}

fn publication() -> impl Strategy<Value = Publication> {
    let flags = prop::array::uniform5(any::<bool>());
    let flags = (flags, prop::bool::weighted(0.2));
    (prop::option::weighted(0.8, nature()), flags).prop_map(|(nature, (flags, is_for_boot))| {
        Publication {
            nature,
            has_new_secrets: flags[0],
            has_new_kernel: flags[1],
            reboots: flags[2],
            moves_by_itself: flags[3],
            has_console: flags[4],
            is_for_boot,
        }
    })
}

fn update() -> impl Strategy<Value = Event> {
    let fault = prop::option::weighted(0.7, (0..45_usize, any_fault()));
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (fault, flags).prop_map(|(fault, (at_boot, retry))| Event::Update {
        fault,
        at_boot,
        retry,
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => publication().prop_map(Event::Publish),
        1 => Just(Event::Return),
        1 => Just(Event::Release),
        10 => update(),
        2 => Just(Event::Reboot),
        1 => Just(Event::Report),
        2 => any::<bool>().prop_map(Event::Specialise),
        2 => (1..600_i64).prop_map(Event::Pass),
        1 => (-48..48_i64).prop_map(Event::Jump),
        1 => Just(Event::Hold),
        1 => Just(Event::LetGo),
        1 => any::<bool>().prop_map(Event::ServerDown),
        1 => any::<bool>().prop_map(Event::Inhibit),
    ]
}

impl Fake {
    fn live_through(&mut self, event: Event) {
        match event {
            Event::Publish(publication) => self.publish_as(publication),
            Event::Return => self.publish_again(),
            Event::Release => self.server.inputs = self.server.inputs.wrapping_add(1),
            Event::Update {
                fault,
                at_boot,
                retry,
            } => {
                self.fault = fault;
                self.update_with(UpdateOptions { retry, at_boot });
            }
            Event::Reboot => self.reboot_machine(),
            Event::Report => drop(self.start(report_now)),
            Event::Specialise(whether) => self.specialise(whether),
            Event::Pass(minutes) => self.pass(minutes),
            Event::Jump(hours) => self.clock += jiff::SignedDuration::from_hours(hours),
            Event::Hold => self.hold(4),
            Event::LetGo => self.machine.held = None,
            Event::ServerDown(is_down) => self.server.is_down = is_down,
            Event::Inhibit(is_inhibited) => self.machine.is_inhibited = is_inhibited,
        }
    }

    fn specialise(&mut self, whether: bool) {
        let machine = &mut self.machine;
        let system = whole(&machine.running);
        // Not while a run is undone: its report is about what it did.
        let is_quiet = self.disk.journal.is_none() && machine.switching.is_none();
        if is_quiet && self.server.system(&system).has_console {
            machine.running = match whether {
                true => console_of(&system),
                false => system,
            };
        }
    }

    fn publish_as(&mut self, publication: Publication) {
        if let Some(nature) = publication.nature {
            self.publish(nature);
            let system = self.server.systems.last_mut().expect("one was published");
            system.kernel += u8::from(publication.has_new_kernel);
            system.has_console = publication.has_console;
            system.is_for_boot = publication.is_for_boot;
        }
        self.publish_with(|generation| {
            generation.secrets += u8::from(publication.has_new_secrets);
            generation.terms.reboot = match publication.reboots {
                true => Reboot::Immediate,
                false => Reboot::Never,
            };
            generation.terms.self_update = publication.moves_by_itself;
        });
    }
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_in_the_life_of_a_machine_it_is_wholly_old_or_wholly_new(
        events in prop::collection::vec(event(), 1..12)
    ) {
        let mut fake = Fake::new();
        fake.server.systems[0].has_console = true;
        for event in events {
            fake.live_through(event);
        }
        fake.recover_undisturbed();
        fake.check_progress();
    }
}
