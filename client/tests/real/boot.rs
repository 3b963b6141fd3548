//! Systems that take effect at the next boot. What reboots a machine needs systemd, so the boots are played.

use std::fs;

use bento_protocol::Outcome;

use crate::env::{CURRENT, ClientEnv, broken, flake, with};

fn outcomes(env: &ClientEnv) -> Vec<Outcome> {
    env.reports().iter().map(|it| it.outcome).collect()
}

#[track_caller]
fn is_staged(env: &ClientEnv, running: &str, staged: &str) {
    assert_eq!(env.running().as_deref(), Some(running));
    assert_eq!(env.bootable().as_deref(), Some(staged));
    env.nothing_is_left();
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Staged);
    assert!(report.reboot_required);
    assert_eq!(report.system.running, report.system.before);
}

#[test]
fn a_system_is_staged_for_the_next_boot_and_proven_after_it() {
    let mut env = ClientEnv::new();
    env.configure("operation = \"boot\"");
    let token = "secrets/token";
    let first = env.publish(with(flake("1"), token, "one"), &[]);
    env.update().with(0).without_complaint();
    is_staged(&env, "0", "1");
    assert_eq!(env.switches(), ["boot 1"]);
    // They belong to the system that runs.
    assert!(!env.state("secrets").exists());
    env.update().with(0);
    assert_eq!(env.reports().len(), 1);

    env.reboot();
    env.update().with(0).without_complaint();
    env.is_wholly_on("1");
    assert_eq!(fs::read_to_string(env.state(token)).unwrap(), "one");
    let report = env.last_report();
    assert_eq!(report.generation, first.manifest.generation());
    assert!(!report.reboot_required);
    env.update().with(0);
    assert_eq!(outcomes(&env), [Outcome::Staged, Outcome::Switched]);
}

#[test]
fn secrets_are_those_of_the_system_that_was_booted_before_any_client_runs() {
    let mut env = ClientEnv::new();
    let first = env.publish(with(flake("1"), "secrets/token", "one"), &[]);
    env.update().with(0);
    let old = fs::read_link(env.path(CURRENT)).unwrap();
    env.publish(with(flake("2"), "secrets/token", "two"), &[&first]);
    env.update_with(&["--at-boot"]).with(0);
    let token_after_boot = || {
        env.ask("settle-secrets", &[]).with(0);
        fs::read_to_string(env.state("secrets/token")).unwrap()
    };
    assert_eq!(token_after_boot(), "one");
    env.reboot();
    assert_eq!(token_after_boot(), "two");
    env.reboot_into(&old);
    assert_eq!(token_after_boot(), "one");
}

#[test]
fn one_update_can_be_asked_to_wait_for_the_boot() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.update_with(&["--at-boot"]).with(0).without_complaint();
    is_staged(&env, "0", "1");
    assert_eq!(env.switches(), ["boot 1"]);
}

#[test]
fn a_system_that_fails_its_health_checks_after_the_boot_is_taken_back() {
    let mut env = ClientEnv::new();
    let check = "[[health.checks]]\nname = \"web\"\n\
        command = [\"sh\", \"-c\", \"grep -qv 2 $MACHINE_ROOT/run/current-system/nixos-version\"]";
    env.configure(&format!("operation = \"boot\"\n{check}"));
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    env.reboot();
    env.update().with(0);
    env.publish(flake("2"), &[&first]);
    env.update().with(0);
    env.reboot();
    assert_eq!(env.running().as_deref(), Some("2"));
    // It would reboot into the old system, but there is nothing here that could do that.
    env.update()
        .with(3)
        .complaining("health check web: ended with exit code 1")
        .complaining("this machine can't reboot by itself");
    assert_eq!(env.bootable().as_deref(), Some("1"));
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::RollbackFailed);
    assert_eq!(report.system.running, report.system.built);
    let reports = env.reports().len();
    env.update()
        .with(3)
        .complaining("this machine can't reboot by itself");
    assert_eq!(env.reports().len(), reports);

    env.reboot();
    env.update().with(1).complaining("is known to have failed");
    env.is_wholly_on("1");
    assert_eq!(env.last_report().outcome, Outcome::RolledBack);
    let calls = env.switches();
    env.update()
        .with(1)
        .complaining("isn't tried again until it changes");
    assert_eq!(env.switches(), calls);
}

#[test]
fn a_boot_that_ends_in_the_old_system_is_reported() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.update_with(&["--at-boot"]).with(0);
    let old = fs::read_link(env.path(CURRENT)).unwrap();
    env.reboot_into(&old);
    env.update()
        .with(1)
        .complaining("the machine booted")
        .complaining("is known to have failed");
    env.is_wholly_on("0");
    assert_eq!(outcomes(&env), [Outcome::Staged, Outcome::RolledBack]);
}

#[test]
fn a_newer_generation_takes_the_place_of_what_awaits_a_boot() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update_with(&["--at-boot"]).with(0);
    env.publish(flake("2"), &[&first]);
    env.update().with(0).without_complaint();
    env.is_wholly_on("2");
    assert_eq!(outcomes(&env), [Outcome::Staged, Outcome::Switched]);
    assert!(!env.state("awaiting.json").exists());

    // What isn't built doesn't leave the machine with what was withdrawn.
    env.publish(flake("3"), &[]);
    env.update_with(&["--at-boot"]).with(0);
    assert_eq!(env.bootable().as_deref(), Some("3"));
    env.publish(broken("4"), &[]);
    env.update().with(1);
    env.is_wholly_on("2");
}

#[test]
fn what_awaits_a_boot_goes_when_the_installed_generation_is_published_again() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    env.publish(flake("2"), &[&first]);
    env.update_with(&["--at-boot"]).with(0);
    is_staged(&env, "1", "2");
    env.server.publish(&first, &[]);
    env.update().with(0).without_complaint();
    env.is_wholly_on("1");
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.generation, first.manifest.generation());
    assert!(!report.reboot_required);
}

#[test]
fn a_new_kernel_wants_a_reboot_and_says_so() {
    let mut env = ClientEnv::new();
    env.publish(with(flake("1"), "config/kernel", "another"), &[]);
    env.update().with(0);
    env.is_wholly_on("1");
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Switched);
    assert!(report.reboot_required);
    env.reboot();
    env.update().with(0);
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert!(!report.reboot_required);
    assert_eq!(env.reports().len(), 2);
}

#[test]
fn what_a_boot_could_go_back_to_is_no_garbage() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.update().with(0);
    let old = fs::canonicalize(env.path(CURRENT)).unwrap();
    env.publish(with(flake("2"), "config/kernel", "another"), &[]);
    env.update().with(0);
    env.is_wholly_on("2");
    let root = format!("{} -> {}", env.state("fallback").display(), old.display());
    let roots = env.roots();
    assert!(roots.contains(&root), "no {root} in {roots:#?}");
}
