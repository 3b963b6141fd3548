//! What switch-to-configuration may come to, and what follows.

use std::fs;

use bento_protocol::Outcome;

use crate::ground::{Ground, flake, with};
use crate::publisher::Content;

fn activating(version: &str, script: &str) -> Vec<Content> {
    with(flake(version), "config/activation.sh", script)
}

#[test]
fn a_switch_that_fails_halfway_is_undone_and_not_tried_again_by_itself() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let second = ground.publish(activating("2", "activate; exit 1"), &[]);
    ground.update().with(3).complaining("exit code 1");
    ground.is_wholly_on("1");
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(report.generation, second.manifest.generation());
    assert_eq!(report.system.running, report.system.before);
    assert_ne!(report.system.built, report.system.running);
    assert!(report.error.unwrap().contains("exit code 1"));
    for said in ["switching to version 2", "switching to version 1"] {
        assert!(report.log.contains(said), "{}", report.log);
    }
    let calls = ["test 1", "boot 1", "test 2", "test 1"];
    assert_eq!(ground.switches(), calls);

    for _ in 0..2 {
        ground
            .update()
            .with(1)
            .complaining("is known to have failed")
            .complaining("isn't tried again until it changes")
            .complaining("exit code 1");
    }
    assert_eq!(ground.switches(), calls);
    assert_eq!(ground.reports().len(), 2);
    ground.update_with(&["--retry"]).with(3);
    assert_eq!(ground.switches().len(), 6);

    ground.publish(flake("3"), &[]);
    ground.update().with(0).without_complaint();
    ground.is_wholly_on("3");
}

#[test]
fn units_that_failed_are_a_warning_where_none_failed_newly() {
    let mut ground = Ground::new();
    ground.publish(activating("1", "activate; exit 4"), &[]);
    ground.update().with(0).complaining("units failed");
    ground.is_wholly_on("1");
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Switched);
    assert!(report.error.unwrap().contains("units failed"));
}

#[test]
fn a_switch_for_which_another_leaves_no_room_is_tried_again() {
    let mut ground = Ground::new();
    let busy = ground.path("busy");
    let script = format!("[ -e {} ] && exit 11; activate", busy.display());
    ground.publish(activating("1", &script), &[]);
    fs::write(&busy, "").unwrap();
    ground
        .update()
        .with(1)
        .complaining("another switch of the system is going on");
    ground.is_wholly_on("0");
    assert_eq!(ground.last_report().outcome, Outcome::ActivationFailed);
    fs::remove_file(busy).unwrap();
    ground.update().with(0);
    ground.is_wholly_on("1");
}

#[test]
fn a_system_whose_init_differs_waits_for_the_next_boot() {
    let mut ground = Ground::new();
    ground.publish(activating("1", "exit 100"), &[]);
    ground
        .update()
        .with(0)
        .complaining("takes effect at the next boot");
    assert_eq!(ground.switches(), ["test 1", "boot 1"]);
    assert_eq!(ground.running().as_deref(), Some("0"));
    assert_eq!(ground.bootable().as_deref(), Some("1"));
    ground.nothing_is_left();
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Staged);
    assert!(report.reboot_required);
    ground.update().with(0);
    assert_eq!(ground.reports().len(), 1);

    ground.reboot();
    ground.update().with(0).without_complaint();
    ground.is_wholly_on("1");
    let outcomes: Vec<_> = ground.reports().iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Outcome::Staged, Outcome::Switched]);
    let report = ground.last_report();
    assert!(!report.reboot_required);
    assert_eq!(report.system.built, report.system.booted);
}

#[test]
fn a_boot_loader_that_fails_takes_the_new_system_back() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    ground.update().with(0);
    ground.publish(with(flake("2"), "config/boot-loader.sh", "exit 1"), &[]);
    ground.update().with(3).complaining("boot");
    ground.is_wholly_on("1");
    assert_eq!(
        ground.switches()[2..],
        ["test 2", "boot 2", "boot 1", "test 1"]
    );
    assert_eq!(ground.last_report().outcome, Outcome::RolledBack);
}

#[test]
fn a_switch_that_says_yes_and_does_nothing_is_found_out() {
    let mut ground = Ground::new();
    ground.publish(activating("1", "true"), &[]);
    ground.update().with(3).complaining("said that all is well");
    ground.is_wholly_on("0");
}

#[test]
fn a_rollback_that_fails_says_so_loudly_and_is_tried_again_at_the_next_start() {
    let mut ground = Ground::new();
    let broken = ground.path("broken");
    let fails = format!("[ -e {} ] && exit 1; activate", broken.display());
    ground.publish(activating("1", &fails), &[]);
    ground.update().with(0);
    fs::write(&broken, "").unwrap();
    ground.publish(activating("2", "activate; exit 1"), &[]);
    ground
        .update()
        .with(3)
        .complaining("THE ROLLBACK FAILED")
        .complaining("tried again at the next start");
    assert_eq!(ground.last_report().outcome, Outcome::RollbackFailed);
    assert_eq!(ground.running().as_deref(), Some("2"));

    fs::remove_file(&broken).unwrap();
    ground.update().with(1).complaining("it is tried again");
    ground.is_wholly_on("1");
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert!(
        report
            .error
            .unwrap()
            .contains("a later start brought the machine back")
    );
}
