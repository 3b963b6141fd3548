//! An update with a fault or a crash at every effect.

use bento_protocol::{Outcome, Reboot};
use proptest::prelude::*;

use super::super::{UpdateOptions, recover};
use super::fake::{Fake, Fault, TIME_TO_CONFIRM, When};
use super::machine::{Nature, system};
use crate::exit::ExitReason;

pub(super) fn any_fault() -> impl Strategy<Value = Fault> {
    prop::sample::select(faults(6).collect::<Vec<_>>())
}

/// Everything that can happen at an effect that fails in so many ways.
pub(super) fn faults(ways: usize) -> impl Iterator<Item = Fault> {
    let deaths = [When::Before, When::Amid, When::After]
        .into_iter()
        .flat_map(|when| [false, true].map(|reboots| Fault::Death { when, reboots }));
    let timers = [false, true].map(|dies| Fault::Timer { dies });
    (0..ways).map(Fault::Error).chain(deaths).chain(timers)
}

/// Runs an update with every fault at every effect, each time on a fresh machine from `make`, and
/// gives the number of cases.
fn try_everything(make: impl Fn() -> Fake) -> usize {
    let mut whole = make();
    whole.update();
    let mut cases = 0;
    for (effect, ways) in whole.effects.iter().copied().enumerate() {
        for fault in faults(ways) {
            let mut fake = make().with_fault(effect, fault);
            fake.update();
            fake.recover_undisturbed();
            fake.check_progress();
            cases += 1;
        }
    }
    cases
}

fn with_new_secrets(nature: Nature) -> Fake {
    let mut fake = Fake::with(nature);
    fake.publish_with(|generation| generation.secrets = 1);
    fake
}

/// A machine that booted into a staged system of that nature.
fn booted(nature: Nature) -> Fake {
    let mut fake = with_new_secrets(nature);
    fake.update_with(UpdateOptions {
        at_boot: true,
        retry: false,
    });
    fake.reboot_machine();
    fake
}

/// A machine whose rollback failed, and for which something else is published.
fn rollback_failed(is_inhibited: bool) -> Fake {
    let fake = with_new_secrets(Nature::Unhealthy);
    let mut fake = fake.with_fault_at("test 0", Fault::Error(0));
    fake.machine.is_inhibited = is_inhibited;
    fake.update();
    fake.publish(Nature::Good);
    fake
}

#[test]
fn whatever_happens_wherever_in_an_update_the_machine_is_wholly_old_or_wholly_new() {
    assert!(try_everything(|| Fake::with(Nature::Good)) > 300);
    assert!(try_everything(|| with_new_secrets(Nature::Good)) > 300);
}

#[test]
fn whatever_happens_wherever_in_an_update_of_secrets_alone() {
    let new_secrets = || {
        let mut fake = Fake::new();
        fake.publish_with(|generation| generation.secrets = 1);
        fake
    };
    assert!(try_everything(new_secrets) > 300);
}

#[test]
fn whatever_happens_wherever_in_an_update_that_fails() {
    for nature in [
        Nature::ActivationFails,
        Nature::Unhealthy,
        Nature::KillsNetwork,
        Nature::UnitFails,
        Nature::BreaksNix,
    ] {
        assert!(try_everything(|| with_new_secrets(nature)) > 300);
    }
}

#[test]
fn whatever_happens_wherever_around_a_boot() {
    for nature in [Nature::NeedsBoot, Nature::Inhibited] {
        assert!(try_everything(|| with_new_secrets(nature)) > 300);
    }
    for nature in [Nature::Good, Nature::Unhealthy, Nature::NeverBoots] {
        assert!(try_everything(|| booted(nature)) > 50);
    }
    let makes_way = || {
        let mut fake = with_new_secrets(Nature::NeedsBoot);
        fake.update();
        fake.publish(Nature::Good);
        fake
    };
    assert!(try_everything(makes_way) > 300);
}

#[test]
fn whatever_happens_wherever_around_a_kernel_to_which_bento_reboots() {
    let switched = |nature| {
        let mut fake = Fake::with(nature).with_kernel(1);
        fake.publish_with(|generation| {
            generation.terms.reboot = Reboot::Immediate;
            generation.secrets = 1;
        });
        fake
    };
    // A system that needs a boot follows one that wants its own.
    let followed = |nature| {
        let mut fake = Fake::with(nature).with_kernel(1);
        fake.update();
        fake.publish(Nature::NeedsBoot);
        fake.publish_with(|generation| generation.secrets = 1);
        fake.update();
        fake.reboot_machine();
        fake
    };
    for nature in [Nature::Good, Nature::LosesNetwork] {
        assert!(try_everything(|| switched(nature)) > 300);
        let rebooted = || {
            let mut fake = switched(nature);
            fake.update();
            fake
        };
        assert!(try_everything(rebooted) > 50);
        let gone_back = || {
            let mut fake = rebooted().with_fault_at("confirm", Fault::Error(0));
            fake.update();
            fake
        };
        assert!(try_everything(gone_back) > 50);
        assert!(try_everything(|| followed(nature)) > 50);
        let unfollowed = || {
            let mut fake = followed(nature).with_fault_at("confirm", Fault::Error(1));
            fake.update();
            fake
        };
        assert!(try_everything(unfollowed) > 50);
    }
}

// Issue 10, line 21.
#[test]
fn whatever_happens_wherever_in_an_update_of_a_specialisation() {
    for nature in [Nature::Good, Nature::Unhealthy] {
        assert!(try_everything(|| with_new_secrets(nature).specialised()) > 300);
    }
    let kernel = || {
        let mut fake = Fake::with(Nature::LosesNetwork)
            .with_kernel(1)
            .specialised();
        fake.publish_with(|generation| generation.terms.reboot = Reboot::Immediate);
        fake
    };
    assert!(try_everything(kernel) > 300);
}

#[test]
fn whatever_happens_wherever_after_a_rollback_that_failed() {
    // It came back by a boot, or somebody keeps it from going down.
    for is_inhibited in [false, true] {
        assert!(try_everything(|| rollback_failed(is_inhibited)) > 300);
    }
}

const KILLED: Fault = Fault::Death {
    when: When::Before,
    reboots: false,
};

#[test]
fn a_run_that_is_cut_short_is_reported_by_the_next() {
    for (act, outcome) in [
        ("pull a delta", Outcome::PullFailed),
        ("build", Outcome::BuildFailed),
        ("arm", Outcome::ActivationFailed),
        ("test 1", Outcome::RolledBack),
        ("confirm", Outcome::RolledBack),
        ("boot 1", Outcome::Switched),
        ("decide Committed", Outcome::Switched),
        ("report switched", Outcome::Switched),
    ] {
        let mut fake = Fake::with(Nature::Good).with_fault_at(act, KILLED);
        assert_eq!(fake.update(), None);
        assert!(fake.server.reports.is_empty());
        let ended = fake.start(|fake| {
            recover(fake);
            Ok(())
        });
        assert_eq!(ended, Some(Ok(())));
        assert_eq!(fake.newest_report().outcome, outcome, "{act}");
        fake.check_whole();
    }
}

#[test]
fn without_a_client_the_timer_brings_the_old_system_back_and_reports() {
    for act in ["confirm", "profile 1", "boot 1"] {
        let mut fake = with_new_secrets(Nature::Good).with_fault_at(act, KILLED);
        assert_eq!(fake.update(), None);
        fake.pass(TIME_TO_CONFIRM - 1);
        assert_eq!(fake.machine.running, system(1, 0), "{act}");
        fake.pass(1);
        assert_eq!(fake.machine.running, system(0, 0), "{act}");
        assert_eq!(fake.newest_report().outcome, Outcome::RolledBack, "{act}");
        fake.server.published = 0;
        fake.update();
        fake.check_whole();
    }
}

#[test]
fn a_run_that_continues_after_its_time_does_not_leave_the_new_system() {
    let timer = Fault::Timer { dies: false };
    for act in [
        "secrets 2",
        "test 1",
        "confirm",
        "profile 1",
        "boot 1",
        "decide Committed",
    ] {
        let mut fake = with_new_secrets(Nature::Good).with_fault_at(act, timer);
        assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)), "{act}");
        assert_eq!(fake.newest_report().outcome, Outcome::RolledBack, "{act}");
        // Whatever failed may have done so because the old system came back.
        assert!(fake.disk.failed.as_ref().unwrap().retry, "{act}");
        fake.check_whole();
    }
}

#[test]
fn a_switch_continues_without_its_client_and_is_stopped_by_the_next() {
    let amid = Fault::Death {
        when: When::Amid,
        reboots: false,
    };
    let mut fake = Fake::with(Nature::Good).with_fault_at("test 1", amid);
    fake.update();
    assert!(fake.machine.switching.is_some() && fake.machine.is_half);
    fake.update();
    assert!(fake.did("stop the switch") && fake.did("test 0"));
    // It was nobody's fault, and is tried again at once.
    assert_eq!(fake.machine.running, system(1, 0));
    fake.check_whole();
}
