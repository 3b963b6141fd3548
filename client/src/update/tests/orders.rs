//! Order of the effects of a run.

use bento_protocol::Outcome;

use super::super::UpdateOptions;
use super::super::{report_now, roll_back_by_hand};
use super::fake::{Fake, Fault};
use super::machine::{Nature, console_of, id, system};
use crate::exit::{ExitReason, Failure};

const RETRY: UpdateOptions = UpdateOptions {
    retry: true,
    at_boot: false,
};

#[test]
fn an_update_goes_through_its_phases_in_order() {
    let mut fake = Fake::with(Nature::Good);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(
        fake.acts(),
        [
            "poll",
            "find what is staged",
            "pull a delta",
            "verify",
            "stage",
            "read the inputs",
            "make room",
            "build",
            "guard",
            "check the room in /boot",
            "reach the appliance",
            "arm",
            "secrets 1",
            "test 1",
            "confirm",
            "profile 1",
            "boot 1",
            "decide Committed",
            "installed 1",
            "report switched",
            "disarm",
        ]
    );
    let journals: Vec<_> = fake
        .done
        .iter()
        .filter_map(|done| done.strip_prefix("record journal "))
        .collect();
    assert_eq!(
        journals,
        [
            "pull", "verify", "stage", "build", "arm", "arm", "activate", "confirm", "commit",
            "report", "nothing",
        ]
    );
    let report = fake.newest_report();
    let phases: Vec<_> = report
        .phases
        .iter()
        .map(|phase| phase.name.as_str())
        .collect();
    assert_eq!(
        phases,
        [
            "poll", "pull", "verify", "stage", "build", "arm", "activate", "confirm", "commit",
        ]
    );
    assert_eq!(report.system.before, Some(system(0, 0)));
    assert_eq!(report.system.built, Some(system(1, 0)));
    assert_eq!(report.system.running, Some(system(1, 0)));
    fake.check_whole();
}

#[test]
fn what_is_staged_is_not_pulled_again() {
    let mut fake = Fake::with(Nature::Good);
    fake.disk.staged.insert(id(1));
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(!fake.did("pull a delta") && !fake.did("pull the bundle") && !fake.did("stage"));
    assert!(fake.did("installed 1"));
}

#[test]
fn what_runs_already_is_not_activated() {
    let mut fake = Fake::new();
    fake.publish_with(|generation| generation.is_unpinned = true);
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(!fake.did("test 0") && !fake.did("arm"));
    assert!(fake.did("secrets 1") && fake.did("installed 1"));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
}

#[test]
fn new_secrets_alone_are_activated_proven_and_their_units_restarted() {
    let mut fake = Fake::new();
    fake.publish_with(|generation| generation.secrets = 1);
    assert_eq!(fake.update(), Some(Ok(())));
    for act in ["arm", "secrets 1", "test 0", "restart units", "confirm"] {
        assert!(fake.did(act), "{act}");
    }
    assert_eq!(fake.machine.secrets_in_use, Some(1));
    fake.check_whole();
}

#[test]
fn nothing_new_is_reported_only_when_the_machine_differs_from_its_last_report() {
    let mut fake = Fake::new();
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.acts(), ["poll", "secrets 0", "report unchanged"]);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.acts(), ["poll", "secrets 0"]);

    fake.server.systems.push(super::machine::System {
        kernel: 1,
        ..Default::default()
    });
    fake.machine.running = system(1, 0);
    assert_eq!(fake.update(), Some(Ok(())));
    let report = fake.newest_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.system.built, Some(system(0, 0)));
    assert_eq!(report.system.running, Some(system(1, 0)));
    assert!(report.reboot_required);
    assert_eq!(fake.server.reports.len(), 2);
}

#[test]
fn a_machine_that_is_held_polls_and_reports_and_stays_as_it_is() {
    let mut fake = Fake::with(Nature::Good);
    fake.hold(4);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.acts(), ["poll", "report unchanged"]);
    let report = fake.newest_report();
    assert_eq!(report.held, fake.machine.held);
    // Not the one that is published: that isn't what it has.
    assert_eq!(report.generation, id(0));
    fake.pass(5 * 60);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    assert_eq!(fake.newest_report().held, None);
}

#[test]
fn a_machine_that_is_held_after_a_failure_reports_it() {
    let mut fake = Fake::with(Nature::Unhealthy);
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    fake.publish(Nature::Good);
    fake.hold(4);
    fake.update();
    assert_eq!(fake.newest_report().generation, id(1));
    assert_eq!(fake.newest_report().outcome, Outcome::RolledBack);
}

#[test]
fn a_machine_that_never_was_updated_and_is_held_reports_nothing() {
    let mut fake = Fake::with(Nature::Good);
    fake.disk.installed = None;
    fake.hold(4);
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(fake.server.reports.is_empty());
}

#[test]
fn a_self_update_is_marked_and_made_only_when_something_moved() {
    let mut fake = Fake::new();
    fake.publish_with(|generation| generation.terms.self_update = true);
    fake.update();
    fake.update();
    assert!(fake.did("move the inputs") && !fake.did("build"));
    fake.server.inputs = 1;
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(fake.newest_report().auto);
    assert_eq!(fake.newest_report().system.running, Some(system(0, 1)));
    let installed = fake.disk.installed.clone().unwrap();
    assert_eq!(installed.mark, Some(Fake::mark_of(1)));
    fake.update();
    assert!(!fake.did("build"));
    // What runs is still what the machine moved to by itself.
    fake.reboot_machine();
    fake.update();
    let report = fake.newest_report();
    assert_eq!((report.auto, report.outcome), (true, Outcome::Unchanged));

    // A machine isn't taken back to older packages by a new generation.
    fake.publish(Nature::Good);
    fake.update();
    assert_eq!(fake.machine.running, system(1, 1));
    assert!(!fake.newest_report().auto);
    fake.check_whole();
}

#[test]
fn a_self_update_that_failed_leaves_what_is_installed_a_success() {
    let mut fake = Fake::new();
    fake.publish_with(|generation| generation.terms.self_update = true);
    fake.update();
    fake.server.inputs = 1;
    fake.server.systems[0].nature = Nature::Unhealthy;
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    let report = fake.newest_report();
    assert_eq!((report.auto, report.outcome), (true, Outcome::RolledBack));
    // What moves by itself may be another the next time.
    assert!(fake.disk.failed.as_ref().unwrap().retry);
    assert_eq!(fake.machine.running, system(0, 0));
    fake.check_whole();
}

fn by_hand(fake: &mut Fake) -> Result<(), Failure> {
    roll_back_by_hand(fake).map(drop)
}

// Issue 10, line 27.
#[test]
fn a_report_can_be_made_by_hand() {
    let mut fake = Fake::new();
    fake.update();
    assert_eq!(fake.start(report_now), Some(Ok(())));
    assert_eq!(fake.acts(), ["poll", "report unchanged"]);
    assert_eq!(fake.server.reports.len(), 2);
    // What is published meanwhile isn't tried.
    fake.publish(Nature::Good);
    assert_eq!(fake.start(report_now), Some(Ok(())));
    assert_eq!(fake.newest_report().generation, id(0));
    fake.server.is_down = true;
    assert_eq!(fake.start(report_now), Some(Err(ExitReason::Server)));
    fake.server.is_down = false;
    let mut fake = fake.with_fault_at("poll", Fault::Error(0));
    assert_eq!(fake.start(report_now), Some(Err(ExitReason::Server)));

    let mut fresh = Fake::new();
    fresh.disk.installed = None;
    assert_eq!(
        fresh.start(report_now),
        Some(Err(ExitReason::RebuildFailed))
    );
    assert!(fresh.server.reports.is_empty());
}

// Issue 10, line 26.
#[test]
fn a_rollback_by_hand_can_be_undone() {
    let mut fake = Fake::with(Nature::Good);
    fake.update();
    assert_eq!(fake.start(by_hand), Some(Ok(())));
    assert_eq!(
        fake.acts(),
        ["test 0", "profile 0", "boot 0", "report unchanged"]
    );
    assert_eq!(fake.machine.running, system(0, 0));
    // It is shown as drifted, and who did it.
    let report = fake.newest_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.system.before, Some(system(1, 0)));
    assert_eq!(report.system.built, Some(system(1, 0)));
    assert_eq!(report.system.running, Some(system(0, 0)));
    let error = report.error.as_deref().unwrap();
    assert!(error.contains("bento-client rollback"), "{error}");
    // By itself it isn't updated again to what somebody left; nor while it is held.
    fake.update();
    fake.hold(1);
    fake.update_with(RETRY);
    assert_eq!(fake.machine.running, system(0, 0));
    fake.machine.held = None;
    fake.update_with(RETRY);
    assert_eq!(fake.machine.running, system(1, 0));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();
    // And once more.
    assert_eq!(fake.start(by_hand), Some(Ok(())));
    assert_eq!(fake.machine.running, system(0, 0));

    let mut fresh = Fake::new();
    let ended = fresh.start(by_hand);
    assert_eq!(ended, Some(Err(ExitReason::RolledBack)));
}

// Issue 10, line 26.
#[test]
fn what_ran_before_stays_known_when_a_generation_comes_to_the_same_system() {
    let mut fake = Fake::with(Nature::Good);
    fake.update();
    fake.publish_with(|generation| generation.is_unpinned = true);
    fake.update();
    assert_eq!(fake.disk.installed.as_ref().unwrap().generation, id(2));
    assert_eq!(fake.start(by_hand), Some(Ok(())));
    assert_eq!(fake.machine.running, system(0, 0));
}

// Issue 10, line 30.
#[test]
fn what_garbage_collection_took_is_named() {
    let mut fake = Fake::with(Nature::Good);
    fake.update();
    fake.machine.collected.insert(system(0, 0));
    let mut said = String::new();
    fake.start(|fake| {
        roll_back_by_hand(fake)
            .map(drop)
            .inspect_err(|failure| said = failure.to_string())
    });
    assert!(said.contains(system(0, 0).as_str()), "{said}");
    assert_eq!(fake.machine.running, system(1, 0));
    assert_eq!(fake.acts(), [""; 0]);
}

// Issue 10, line 21.
#[test]
fn a_machine_stays_in_its_specialisation_if_the_new_system_has_it() {
    let mut fake = Fake::with(Nature::Good).specialised();
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.machine.running, console_of(&system(1, 0)));
    // What boots is the system itself.
    assert_eq!(fake.machine.profile, system(1, 0));
    assert_eq!(*fake.machine.loader(), system(1, 0));
    let report = fake.newest_report();
    assert_eq!(report.outcome, Outcome::Switched);
    assert_eq!(report.system.built, Some(system(1, 0)));
    assert_eq!(report.specialisation.as_deref(), Some("console"));
    fake.check_whole();
    // A rollback leads to what ran.
    fake.publish(Nature::Unhealthy);
    fake.server.systems[2].has_console = true;
    fake.update();
    assert_eq!(fake.newest_report().outcome, Outcome::RolledBack);
    assert_eq!(fake.machine.running, console_of(&system(1, 0)));
    fake.check_whole();
    // So does one by hand.
    assert_eq!(fake.start(by_hand), Some(Ok(())));
    assert_eq!(fake.machine.running, console_of(&system(0, 0)));
    assert_eq!(fake.machine.profile, system(0, 0));
    // Of the system that is installed it is none: that is drifted.
    assert_eq!(fake.newest_report().specialisation, None);
}

// Issue 10, line 21.
#[test]
fn a_specialisation_that_the_new_system_lacks_is_left_and_that_is_reported() {
    let mut fake = Fake::with(Nature::Good).specialised();
    fake.server.systems[1].has_console = false;
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.machine.running, system(1, 0));
    let error = fake.newest_report().error.as_deref().unwrap();
    assert!(error.contains("\"console\""), "{error}");
    fake.check_whole();
}

// Issue 10, line 21.
#[test]
fn a_specialisation_that_somebody_switches_to_is_what_is_installed() {
    let mut fake = Fake::with(Nature::Good);
    fake.server.systems[1].has_console = true;
    fake.update();
    fake.machine.running = console_of(&system(1, 0));
    fake.update_with(RETRY);
    assert_eq!(fake.acts(), ["poll", "secrets 1", "report unchanged"]);
    let report = fake.newest_report();
    assert_eq!(report.specialisation.as_deref(), Some("console"));
    assert_eq!(report.system.running, Some(console_of(&system(1, 0))));
    // What comes to the same system isn't activated.
    fake.publish_with(|generation| generation.is_unpinned = true);
    fake.update();
    assert!(!fake.did("test 1-0-console") && !fake.did("test 1"));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();
}

#[test]
fn going_back_by_hand_leaves_nothing_that_awaits_a_boot() {
    let mut fake = Fake::with(Nature::Good);
    fake.update();
    fake.publish(Nature::NeedsBoot);
    fake.update();
    assert_eq!(fake.start(by_hand), Some(Ok(())));
    fake.reboot_machine();
    fake.hold(1);
    fake.update();
    assert_eq!(fake.machine.running, system(0, 0));
    assert_eq!(*fake.machine.loader(), system(0, 0));
}
