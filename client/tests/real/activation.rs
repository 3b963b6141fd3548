//! What switch-to-configuration may come to, and what follows.

use std::fs;

use bento_protocol::Outcome;

use crate::env::{ClientEnv, flake, with};
use crate::publisher::Content;

fn activating(version: &str, script: &str) -> Vec<Content> {
    with(flake(version), "config/activation.sh", script)
}

#[test]
fn a_switch_that_fails_halfway_is_undone_and_not_tried_again_by_itself() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.update().with(0);
    let second = env.publish(activating("2", "activate; exit 1"), &[]);
    env.update().with(3).complaining("exit code 1");
    env.is_wholly_on("1");
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(report.generation, second.manifest.generation());
    assert_eq!(report.system.running, report.system.before);
    assert_ne!(report.system.built, report.system.running);
    assert!(report.error.unwrap().contains("exit code 1"));
    for said in ["switching to version 2", "switching to version 1"] {
        assert!(report.log.contains(said), "{}", report.log);
    }
    let calls = ["test 1", "boot 1", "test 2", "test 1"];
    assert_eq!(env.switches(), calls);

    for _ in 0..2 {
        env.update()
            .with(1)
            .complaining("is known to have failed")
            .complaining("isn't tried again until it changes")
            .complaining("exit code 1");
    }
    assert_eq!(env.switches(), calls);
    assert_eq!(env.reports().len(), 2);
    env.update_with(&["--retry"]).with(3);
    assert_eq!(env.switches().len(), 6);

    env.publish(flake("3"), &[]);
    env.update().with(0).without_complaint();
    env.is_wholly_on("3");
}

#[test]
fn units_that_failed_are_a_warning_where_none_failed_newly() {
    let mut env = ClientEnv::new();
    env.publish(activating("1", "activate; exit 4"), &[]);
    env.update().with(0).complaining("units failed");
    env.is_wholly_on("1");
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Switched);
    assert!(report.error.unwrap().contains("units failed"));
}

#[test]
fn a_switch_for_which_another_leaves_no_room_is_tried_again() {
    let mut env = ClientEnv::new();
    let busy = env.path("busy");
    let script = format!("[ -e {} ] && exit 11; activate", busy.display());
    env.publish(activating("1", &script), &[]);
    fs::write(&busy, "").unwrap();
    env.update()
        .with(1)
        .complaining("another switch of the system is going on");
    env.is_wholly_on("0");
    assert_eq!(env.last_report().outcome, Outcome::ActivationFailed);
    fs::remove_file(busy).unwrap();
    env.update().with(0);
    env.is_wholly_on("1");
}

#[test]
fn a_system_whose_init_differs_waits_for_the_next_boot() {
    let mut env = ClientEnv::new();
    env.publish(activating("1", "exit 100"), &[]);
    env.update()
        .with(0)
        .complaining("takes effect at the next boot");
    assert_eq!(env.switches(), ["test 1", "boot 1"]);
    assert_eq!(env.running().as_deref(), Some("0"));
    assert_eq!(env.bootable().as_deref(), Some("1"));
    env.nothing_is_left();
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Staged);
    assert!(report.reboot_required);
    env.update().with(0);
    assert_eq!(env.reports().len(), 1);

    env.reboot();
    env.update().with(0).without_complaint();
    env.is_wholly_on("1");
    let outcomes: Vec<_> = env.reports().iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Outcome::Staged, Outcome::Switched]);
    let report = env.last_report();
    assert!(!report.reboot_required);
    assert_eq!(report.system.built, report.system.booted);
}

#[test]
fn a_boot_loader_that_fails_takes_the_new_system_back() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.update().with(0);
    env.publish(with(flake("2"), "config/boot-loader.sh", "exit 1"), &[]);
    env.update().with(3).complaining("boot");
    env.is_wholly_on("1");
    assert_eq!(
        env.switches()[2..],
        ["test 2", "boot 2", "boot 1", "test 1"]
    );
    assert_eq!(env.last_report().outcome, Outcome::RolledBack);
}

#[test]
fn a_switch_that_says_yes_and_does_nothing_is_found_out() {
    let mut env = ClientEnv::new();
    env.publish(activating("1", "true"), &[]);
    env.update().with(3).complaining("said that all is well");
    env.is_wholly_on("0");
}

#[test]
fn a_rollback_that_fails_says_so_loudly_and_is_tried_again_at_the_next_start() {
    let mut env = ClientEnv::new();
    let broken = env.path("broken");
    let fails = format!("[ -e {} ] && exit 1; activate", broken.display());
    env.publish(activating("1", &fails), &[]);
    env.update().with(0);
    fs::write(&broken, "").unwrap();
    env.publish(activating("2", "activate; exit 1"), &[]);
    env.update()
        .with(3)
        .complaining("THE ROLLBACK FAILED")
        .complaining("tried again at the next start");
    assert_eq!(env.last_report().outcome, Outcome::RollbackFailed);
    assert_eq!(env.running().as_deref(), Some("2"));

    fs::remove_file(&broken).unwrap();
    env.update().with(1).complaining("it is tried again");
    env.is_wholly_on("1");
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert!(
        report
            .error
            .unwrap()
            .contains("a later start brought the machine back")
    );
}
