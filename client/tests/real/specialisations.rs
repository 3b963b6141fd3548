//! Machines that run a specialisation of their system. (Issue 10, line 21.)

use std::fs;
use std::os::unix::fs::symlink;

use bento_protocol::Outcome;

use crate::ground::{CURRENT, Ground, flake, specialised, with};

/// A machine on version 1, of which it runs the specialisation.
fn in_its_console() -> Ground {
    let mut ground = Ground::new();
    ground.publish(specialised(flake("1"), "1c"), &[]);
    ground.update().with(0);
    // As somebody does by `switch-to-configuration test` of the specialisation.
    let console = ground.path(CURRENT).join("specialisation/console");
    let console = fs::canonicalize(console).unwrap();
    fs::remove_file(ground.path(CURRENT)).unwrap();
    symlink(console, ground.path(CURRENT)).unwrap();
    assert_eq!(ground.running().as_deref(), Some("1c"));
    ground
}

#[test]
fn a_machine_stays_in_its_specialisation() {
    let mut ground = in_its_console();
    fs::write(
        ground.path("machine/etc/machine-id"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .unwrap();
    ground.update().with(0).without_complaint();
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.specialisation.as_deref(), Some("console"));
    assert_ne!(report.system.running, report.system.built);
    // Line 29.
    assert!(report.machine.is_some());
    let status = ground.ask("status", &[]).with(0).stdout;
    assert!(
        status.contains("the specialisation \"console\""),
        "{status}"
    );
    assert!(!status.contains("not what was built"), "{status}");

    ground.publish(specialised(flake("2"), "2c"), &[]);
    ground.update().with(0);
    assert_eq!(ground.running().as_deref(), Some("2c"));
    assert_eq!(ground.bootable().as_deref(), Some("2"));
    assert_eq!(ground.switches(), ["test 1", "boot 1", "test 2c", "boot 2"]);
    assert_eq!(
        ground.last_report().specialisation.as_deref(),
        Some("console")
    );
    ground.nothing_is_left();

    // Back from what fails to what ran.
    let broken = with(
        specialised(flake("3"), "3c"),
        "config/console/activation.sh",
        "activate; exit 1",
    );
    ground.publish(broken, &[]);
    ground.update().with(3);
    assert_eq!(ground.running().as_deref(), Some("2c"));
    assert_eq!(ground.bootable().as_deref(), Some("2"));
    assert_eq!(ground.last_report().outcome, Outcome::RolledBack);

    // By hand, to what ran before.
    ground.ask("rollback", &[]).with(0);
    assert_eq!(ground.running().as_deref(), Some("1c"));
    assert_eq!(ground.bootable().as_deref(), Some("1"));
}

#[test]
fn a_specialisation_that_is_not_there_any_more_is_left() {
    let mut ground = in_its_console();
    ground.publish(flake("2"), &[]);
    ground
        .update()
        .with(0)
        .complaining("which the new system doesn't have");
    ground.is_wholly_on("2");
    assert_eq!(ground.last_report().specialisation, None);
}
