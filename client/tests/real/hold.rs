//! A machine whose owner asks for quiet.

use bento_protocol::Outcome;

use crate::ground::{Ground, broken, flake};

#[test]
fn a_held_machine_asks_and_reports_and_is_updated_when_the_hold_ends() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    ground.ask("hold", &["--for", "4h"]).with(0);
    ground.publish(flake("2"), &[&first]);
    for _ in 0..2 {
        ground.update().with(0).complaining("hold off");
    }
    ground.is_wholly_on("1");
    assert_eq!(ground.switches(), ["test 1", "boot 1"]);
    // The appliance learns once that it is held, and what it is on.
    assert_eq!(ground.reports().len(), 2);
    let report = ground.last_report();
    assert!(report.held.is_some());
    assert_eq!(report.generation, first.manifest.generation());
    assert_eq!(report.outcome, Outcome::Unchanged);

    let said = ground.ask("hold", &[]).with(0).stdout;
    assert!(said.contains("isn't updated until"), "{said}");
    ground.ask("hold", &["off"]).with(0);
    ground.update().with(0).without_complaint();
    ground.is_wholly_on("2");
    assert_eq!(ground.last_report().held, None);
}

#[test]
fn a_held_machine_repeats_how_its_last_attempt_ended() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let second = ground.publish(broken("2"), &[&first]);
    ground.update().with(1);
    ground.ask("hold", &["--for", "1h"]).with(0);
    ground.publish(flake("3"), &[]);
    ground.update().with(0);
    let report = ground.last_report();
    assert_eq!(report.generation, second.manifest.generation());
    assert_eq!(report.outcome, Outcome::BuildFailed);
    assert!(report.held.is_some());
}

#[test]
fn a_held_machine_that_was_never_updated_has_nothing_to_tell() {
    let mut ground = Ground::new();
    ground.ask("hold", &["--for", "1h"]).with(0);
    ground.publish(flake("1"), &[]);
    ground.update().with(0);
    ground.is_wholly_on("0");
    assert_eq!(ground.reports().len(), 0);
}
