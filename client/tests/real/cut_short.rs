//! Runs that die, or hang, in the middle of an update.

use std::fs;

use bento_protocol::{Outcome, RunId};
use rustix::process::Signal;

use crate::env::{ClientEnv, flake, with};
use crate::processes::{Gate, Running, wait_until};

/// The old system comes back soon.
const SOON: &str = "rollback.after = \"3s\"\nconfirm.grace = \"1s\"\n";
/// It would come back, but not as long as the test goes on.
const LATE: &str = "rollback.after = \"10m\"\n";

/// Where the run of version 2 waits.
enum Place {
    Build,
    Activation,
    HealthCheck,
    BootLoader,
}

/// A machine on version 1 whose client waits at a gate on its way to version 2.
fn halted(place: &Place, settings: &str) -> (ClientEnv, Gate, Running) {
    let mut env = ClientEnv::new();
    let gate = Gate::new(&env);
    let (wait, token) = (gate.wait(), "secrets/token");
    let first = env.publish(with(flake("1"), token, "one"), &[]);
    env.update().with(0);
    env.configure(settings);
    let next = with(flake("2"), token, "two");
    let next = match place {
        Place::Build => {
            let build = include_str!("fixtures/build.sh");
            let build = format!("export PATH=/usr/bin:/bin\n{wait}\n{build}");
            with(next, "config/build.sh", &build)
        }
        Place::Activation => with(next, "config/activation.sh", &format!("{wait}\nactivate")),
        Place::HealthCheck => {
            let check = "[[health.checks]]\nname = \"slow\"\ncommand = ";
            env.configure(&format!("{settings}{check}[\"sh\", \"-c\", \"{wait}\"]\n"));
            next
        }
        Place::BootLoader => with(next, "config/boot-loader.sh", &wait),
    };
    env.publish(next, &[&first]);
    let running = Running::start(env.client("update"));
    gate.await_arrival();
    (env, gate, running)
}

#[track_caller]
fn is_back(env: &ClientEnv, because: &str) {
    env.is_wholly_on("1");
    assert_eq!(
        fs::read_to_string(env.state("secrets/token")).unwrap(),
        "one"
    );
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(report.system.running, report.system.before);
    let error = report.error.unwrap();
    assert!(error.contains(because), "{error}");
}

/// Nobody starts a client: what was armed does all.
fn comes_back_by_itself(place: &Place, phase: &str) {
    let (env, _gate, running) = halted(place, SOON);
    running.kill();
    wait_until("the report of the dead run arrives", || {
        env.reports().len() == 2
    });
    wait_until("the rollback is over", || {
        !env.state("transaction.json").exists()
    });
    is_back(&env, &format!("cut short in its phase {phase}"));
}

#[test]
fn a_client_killed_while_the_system_switches_is_not_missed() {
    comes_back_by_itself(&Place::Activation, "activate");
}

#[test]
fn a_client_killed_while_it_confirms_is_not_missed() {
    comes_back_by_itself(&Place::HealthCheck, "confirm");
}

#[test]
fn a_client_killed_while_it_commits_is_not_missed() {
    comes_back_by_itself(&Place::BootLoader, "commit");
}

/// The next start completes what the dead run left, and then has the time to try again.
fn next_start_completes(place: &Place, phase: &str, outcome: Outcome) {
    let (env, gate, running) = halted(place, LATE);
    running.kill();
    gate.open();
    env.update()
        .with(0)
        .complaining(&format!("the last run was cut short in its phase {phase}"));
    env.is_wholly_on("2");
    let reports = env.reports();
    let outcomes: Vec<_> = reports.iter().map(|report| report.outcome).collect();
    assert_eq!(outcomes, [Outcome::Switched, outcome, Outcome::Switched]);
    let error = reports[1].error.clone().unwrap();
    assert!(
        error.contains(&format!("cut short in its phase {phase}")),
        "{error}"
    );
}

#[test]
fn a_build_that_was_cut_short_is_reported_and_done_again() {
    next_start_completes(&Place::Build, "build", Outcome::BuildFailed);
}

#[test]
fn a_switch_that_was_cut_short_is_undone_by_the_next_start() {
    next_start_completes(&Place::Activation, "activate", Outcome::RolledBack);
}

#[test]
fn a_confirmation_that_was_cut_short_is_undone_by_the_next_start() {
    next_start_completes(&Place::HealthCheck, "confirm", Outcome::RolledBack);
}

#[test]
fn a_commit_that_was_cut_short_is_completed_by_the_next_start() {
    let (env, gate, running) = halted(&Place::BootLoader, LATE);
    running.kill();
    gate.open();
    env.update()
        .with(0)
        .complaining("the last run was cut short in its phase commit");
    env.is_wholly_on("2");
    let outcomes: Vec<_> = env.reports().iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Outcome::Switched, Outcome::Switched]);
}

#[test]
fn a_staging_for_the_next_boot_that_was_cut_short_is_completed_by_the_next_start() {
    let (env, gate, running) = halted(&Place::BootLoader, "operation = \"boot\"\n");
    running.kill();
    gate.open();
    env.update()
        .with(0)
        .complaining("the last run was cut short in its phase commit");
    env.nothing_is_left();
    assert_eq!(env.last_report().outcome, Outcome::Staged);
    assert_eq!(env.bootable().as_deref(), Some("2"));
    env.reboot();
    env.update().with(0);
    env.is_wholly_on("2");
}

#[test]
fn a_proof_after_a_boot_that_was_cut_short_is_made_by_the_next_start() {
    let mut env = ClientEnv::new();
    let gate = Gate::new(&env);
    env.publish(flake("1"), &[]);
    env.update_with(&["--at-boot"]).with(0);
    env.reboot();
    let check = "[[health.checks]]\nname = \"slow\"\ncommand = ";
    env.configure(&format!("{check}[\"sh\", \"-c\", \"{}\"]\n", gate.wait()));
    let running = Running::start(env.client("update"));
    gate.await_arrival();
    running.kill();
    assert_eq!(env.reports().len(), 1);
    gate.open();
    env.update().with(0);
    env.is_wholly_on("1");
    assert_eq!(env.reports().len(), 2);
    assert_eq!(env.last_report().outcome, Outcome::Switched);
}

#[test]
fn a_client_that_dies_after_the_old_system_is_back_is_reported_once() {
    let (env, gate, running) = halted(&Place::HealthCheck, SOON);
    running.signal(Signal::STOP);
    wait_until("the old system is back", || {
        let armed = env.state_names("armed");
        armed.iter().any(|name| name.ends_with(".rolled-back"))
    });
    running.kill();
    gate.open();
    // What brought it back may report it, if the client is dead in time.
    wait_until("no other client holds the lock", || {
        env.update().code() == 0
    });
    let outcomes: Vec<_> = env.reports().iter().map(|it| it.outcome).collect();
    let expected = [Outcome::Switched, Outcome::RolledBack, Outcome::Switched];
    assert_eq!(outcomes, expected);
    env.is_wholly_on("2");
}

#[test]
fn what_was_armed_for_a_run_brings_no_other_one_back() {
    let (env, gate, running) = halted(&Place::HealthCheck, LATE);
    let armed = env.state_names("armed").pop().unwrap();
    let other = RunId::now().to_string();
    fs::write(env.state("armed").join(format!("{other}.armed")), "").unwrap();
    env.ask("rollback", &["--armed", &other])
        .with(3)
        .complaining("there is no journal");
    assert!(env.state_names("armed").contains(&armed));
    gate.open();
    running.end().with(0);
    assert_eq!(env.running().as_deref(), Some("2"));
    assert_eq!(env.last_report().outcome, Outcome::Switched);
}

/// A client that can't go on until the old system is back, and then does: it must not have its way.
fn wakes_up_too_late(place: &Place) {
    let (env, gate, running) = halted(place, SOON);
    running.signal(Signal::STOP);
    let armed = || env.state_names("armed");
    wait_until("the old system is back", || {
        armed().iter().any(|name| name.ends_with(".rolled-back"))
    });
    assert_eq!(env.running().as_deref(), Some("1"));
    gate.open();
    running.signal(Signal::CONT);
    running.end().with(3);
    is_back(&env, "nothing had confirmed the new system in time");
    assert_eq!(env.reports().len(), 2);
    // The machine may be to blame: it is tried again.
    env.update().with(0);
    env.is_wholly_on("2");
}

#[test]
fn a_client_that_hangs_while_it_confirms_wakes_up_to_the_old_system() {
    wakes_up_too_late(&Place::HealthCheck);
}

#[test]
fn a_client_that_hangs_while_it_commits_wakes_up_to_the_old_system() {
    wakes_up_too_late(&Place::BootLoader);
}

#[test]
fn a_client_that_hangs_while_the_system_switches_wakes_up_to_the_old_system() {
    wakes_up_too_late(&Place::Activation);
}
