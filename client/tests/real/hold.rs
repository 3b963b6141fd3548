//! A machine whose owner asks for quiet.

use bento_protocol::Outcome;

use crate::env::{ClientEnv, broken, flake};

#[test]
fn a_held_machine_asks_and_reports_and_is_updated_when_the_hold_ends() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    env.ask("hold", &["--for", "4h"]).with(0);
    env.publish(flake("2"), &[&first]);
    for _ in 0..2 {
        env.update().with(0).complaining("hold off");
    }
    env.is_wholly_on("1");
    assert_eq!(env.switches(), ["test 1", "boot 1"]);
    // The appliance learns once that it is held, and what it is on.
    assert_eq!(env.reports().len(), 2);
    let report = env.last_report();
    assert!(report.held.is_some());
    assert_eq!(report.generation, first.manifest.generation());
    assert_eq!(report.outcome, Outcome::Unchanged);

    let said = env.ask("hold", &[]).with(0).stdout;
    assert!(said.contains("isn't updated until"), "{said}");
    env.ask("hold", &["off"]).with(0);
    env.update().with(0).without_complaint();
    env.is_wholly_on("2");
    assert_eq!(env.last_report().held, None);
}

#[test]
fn a_held_machine_repeats_how_its_last_attempt_ended() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let second = env.publish(broken("2"), &[&first]);
    env.update().with(1);
    env.ask("hold", &["--for", "1h"]).with(0);
    env.publish(flake("3"), &[]);
    env.update().with(0);
    let report = env.last_report();
    assert_eq!(report.generation, second.manifest.generation());
    assert_eq!(report.outcome, Outcome::BuildFailed);
    assert!(report.held.is_some());
}

#[test]
fn a_held_machine_that_was_never_updated_has_nothing_to_report() {
    let mut env = ClientEnv::new();
    env.ask("hold", &["--for", "1h"]).with(0);
    env.publish(flake("1"), &[]);
    env.update().with(0);
    env.is_wholly_on("0");
    assert_eq!(env.reports().len(), 0);
}
