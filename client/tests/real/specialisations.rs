//! Machines that run a specialisation of their system. (Issue 10, line 21.)

use std::fs;
use std::os::unix::fs::symlink;

use bento_protocol::Outcome;

use crate::env::{CURRENT, ClientEnv, flake, specialised, with};

/// A machine on version 1, of which it runs the specialisation.
fn in_its_console() -> ClientEnv {
    let mut env = ClientEnv::new();
    env.publish(specialised(flake("1"), "1c"), &[]);
    env.update().with(0);
    // As somebody does by `switch-to-configuration test` of the specialisation.
    let console = env.path(CURRENT).join("specialisation/console");
    let console = fs::canonicalize(console).unwrap();
    fs::remove_file(env.path(CURRENT)).unwrap();
    symlink(console, env.path(CURRENT)).unwrap();
    assert_eq!(env.running().as_deref(), Some("1c"));
    env
}

#[test]
fn a_machine_stays_in_its_specialisation() {
    let mut env = in_its_console();
    fs::write(
        env.path("machine/etc/machine-id"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .unwrap();
    env.update().with(0).without_complaint();
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.specialisation.as_deref(), Some("console"));
    assert_ne!(report.system.running, report.system.built);
    // Line 29.
    assert!(report.machine.is_some());
    let status = env.ask("status", &[]).with(0).stdout;
    assert!(
        status.contains("the specialisation \"console\""),
        "{status}"
    );
    assert!(!status.contains("not what was built"), "{status}");

    env.publish(specialised(flake("2"), "2c"), &[]);
    env.update().with(0);
    assert_eq!(env.running().as_deref(), Some("2c"));
    assert_eq!(env.bootable().as_deref(), Some("2"));
    assert_eq!(env.switches(), ["test 1", "boot 1", "test 2c", "boot 2"]);
    assert_eq!(env.last_report().specialisation.as_deref(), Some("console"));
    env.nothing_is_left();

    // Back from what fails to what ran.
    let broken = with(
        specialised(flake("3"), "3c"),
        "config/console/activation.sh",
        "activate; exit 1",
    );
    env.publish(broken, &[]);
    env.update().with(3);
    assert_eq!(env.running().as_deref(), Some("2c"));
    assert_eq!(env.bootable().as_deref(), Some("2"));
    assert_eq!(env.last_report().outcome, Outcome::RolledBack);

    // By hand, to what ran before.
    env.ask("rollback", &[]).with(0);
    assert_eq!(env.running().as_deref(), Some("1c"));
    assert_eq!(env.bootable().as_deref(), Some("1"));
}

#[test]
fn a_specialisation_that_is_not_there_any_more_is_left() {
    let mut env = in_its_console();
    env.publish(flake("2"), &[]);
    env.update()
        .with(0)
        .complaining("which the new system doesn't have");
    env.is_wholly_on("2");
    assert_eq!(env.last_report().specialisation, None);
}
