//! Systems that take effect at the next boot. What reboots a machine needs systemd, so the boots are played.

use std::fs;

use bento_protocol::Outcome;

use crate::ground::{CURRENT, Ground, broken, flake, with};

fn outcomes(ground: &Ground) -> Vec<Outcome> {
    ground.reports().iter().map(|it| it.outcome).collect()
}

#[track_caller]
fn is_staged(ground: &Ground, running: &str, staged: &str) {
    assert_eq!(ground.running().as_deref(), Some(running));
    assert_eq!(ground.bootable().as_deref(), Some(staged));
    ground.nothing_is_left();
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Staged);
    assert!(report.reboot_required);
    assert_eq!(report.system.running, report.system.before);
}

#[test]
fn a_system_is_staged_for_the_next_boot_and_proven_after_it() {
    let mut ground = Ground::new();
    ground.configure("operation = \"boot\"");
    let token = "secrets/token";
    let first = ground.publish(with(flake("1"), token, "one"), &[]);
    ground.update().with(0).without_complaint();
    is_staged(&ground, "0", "1");
    assert_eq!(ground.switches(), ["boot 1"]);
    // They belong to the system that runs.
    assert!(!ground.state("secrets").exists());
    ground.update().with(0);
    assert_eq!(ground.reports().len(), 1);

    ground.reboot();
    ground.update().with(0).without_complaint();
    ground.is_wholly_on("1");
    assert_eq!(fs::read_to_string(ground.state(token)).unwrap(), "one");
    let report = ground.last_report();
    assert_eq!(report.generation, first.manifest.generation());
    assert!(!report.reboot_required);
    ground.update().with(0);
    assert_eq!(outcomes(&ground), [Outcome::Staged, Outcome::Switched]);
}

#[test]
fn secrets_are_those_of_the_system_that_was_booted_before_any_client_runs() {
    let mut ground = Ground::new();
    let first = ground.publish(with(flake("1"), "secrets/token", "one"), &[]);
    ground.update().with(0);
    let old = fs::read_link(ground.path(CURRENT)).unwrap();
    ground.publish(with(flake("2"), "secrets/token", "two"), &[&first]);
    ground.update_with(&["--at-boot"]).with(0);
    let token_after_boot = || {
        ground.ask("settle-secrets", &[]).with(0);
        fs::read_to_string(ground.state("secrets/token")).unwrap()
    };
    assert_eq!(token_after_boot(), "one");
    ground.reboot();
    assert_eq!(token_after_boot(), "two");
    ground.reboot_into(&old);
    assert_eq!(token_after_boot(), "one");
}

#[test]
fn one_update_can_be_asked_to_wait_for_the_boot() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    ground
        .update_with(&["--at-boot"])
        .with(0)
        .without_complaint();
    is_staged(&ground, "0", "1");
    assert_eq!(ground.switches(), ["boot 1"]);
}

#[test]
fn a_system_that_fails_its_health_checks_after_the_boot_is_taken_back() {
    let mut ground = Ground::new();
    let check = "[[health.checks]]\nname = \"web\"\n\
        command = [\"sh\", \"-c\", \"grep -qv 2 $MACHINE_ROOT/run/current-system/nixos-version\"]";
    ground.configure(&format!("operation = \"boot\"\n{check}"));
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    ground.reboot();
    ground.update().with(0);
    ground.publish(flake("2"), &[&first]);
    ground.update().with(0);
    ground.reboot();
    assert_eq!(ground.running().as_deref(), Some("2"));
    // It would reboot into the old system, but there is nothing here that could do that.
    ground
        .update()
        .with(3)
        .complaining("health check web: ended with exit code 1")
        .complaining("this machine can't reboot by itself");
    assert_eq!(ground.bootable().as_deref(), Some("1"));
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::RollbackFailed);
    assert_eq!(report.system.running, report.system.built);
    let reports = ground.reports().len();
    ground
        .update()
        .with(3)
        .complaining("this machine can't reboot by itself");
    assert_eq!(ground.reports().len(), reports);

    ground.reboot();
    ground
        .update()
        .with(1)
        .complaining("is known to have failed");
    ground.is_wholly_on("1");
    assert_eq!(ground.last_report().outcome, Outcome::RolledBack);
    let calls = ground.switches();
    ground
        .update()
        .with(1)
        .complaining("isn't tried again until it changes");
    assert_eq!(ground.switches(), calls);
}

#[test]
fn a_boot_that_ends_in_the_old_system_is_told() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    ground.update_with(&["--at-boot"]).with(0);
    let old = fs::read_link(ground.path(CURRENT)).unwrap();
    ground.reboot_into(&old);
    ground
        .update()
        .with(1)
        .complaining("the machine booted")
        .complaining("is known to have failed");
    ground.is_wholly_on("0");
    assert_eq!(outcomes(&ground), [Outcome::Staged, Outcome::RolledBack]);
}

#[test]
fn a_newer_generation_takes_the_place_of_what_awaits_a_boot() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update_with(&["--at-boot"]).with(0);
    ground.publish(flake("2"), &[&first]);
    ground.update().with(0).without_complaint();
    ground.is_wholly_on("2");
    assert_eq!(outcomes(&ground), [Outcome::Staged, Outcome::Switched]);
    assert!(!ground.state("awaiting.json").exists());

    // What isn't built doesn't leave the machine with what was withdrawn.
    ground.publish(flake("3"), &[]);
    ground.update_with(&["--at-boot"]).with(0);
    assert_eq!(ground.bootable().as_deref(), Some("3"));
    ground.publish(broken("4"), &[]);
    ground.update().with(1);
    ground.is_wholly_on("2");
}

#[test]
fn what_awaits_a_boot_goes_when_the_installed_generation_is_published_again() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    ground.publish(flake("2"), &[&first]);
    ground.update_with(&["--at-boot"]).with(0);
    is_staged(&ground, "1", "2");
    ground.server.publish(&first, &[]);
    ground.update().with(0).without_complaint();
    ground.is_wholly_on("1");
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.generation, first.manifest.generation());
    assert!(!report.reboot_required);
}

#[test]
fn a_new_kernel_wants_a_reboot_and_says_so() {
    let mut ground = Ground::new();
    ground.publish(with(flake("1"), "config/kernel", "another"), &[]);
    ground.update().with(0);
    ground.is_wholly_on("1");
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Switched);
    assert!(report.reboot_required);
    ground.reboot();
    ground.update().with(0);
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert!(!report.reboot_required);
    assert_eq!(ground.reports().len(), 2);
}

#[test]
fn what_a_boot_could_go_back_to_is_no_garbage() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let old = fs::canonicalize(ground.path(CURRENT)).unwrap();
    ground.publish(with(flake("2"), "config/kernel", "another"), &[]);
    ground.update().with(0);
    ground.is_wholly_on("2");
    let root = format!(
        "{} -> {}",
        ground.state("fallback").display(),
        old.display()
    );
    let roots = ground.roots();
    assert!(roots.contains(&root), "no {root} in {roots:#?}");
}
