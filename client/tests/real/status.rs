//! What the machine's own commands say of it, and a rollback by hand.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use bento_protocol::Outcome;
use serde_json::Value;

use crate::env::{CURRENT, ClientEnv, broken, flake, with};
use crate::processes::{Gate, Running};
use crate::publisher::Generation;
use crate::server;

fn status(env: &ClientEnv) -> Value {
    let ended = env.ask("status", &["--json"]).with(0).without_complaint();
    serde_json::from_str(&ended.stdout).unwrap()
}

#[track_caller]
fn says(env: &ClientEnv, lines: &[&str]) {
    let text = env.ask("status", &[]).with(0).without_complaint().stdout;
    // As a person reads them: columns don't matter.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: Vec<_> = text.lines().map(words).collect();
    for line in lines {
        assert!(
            said.iter().any(|said| said.contains(line)),
            "{line:?} isn't in\n{text}"
        );
    }
}

fn id(generation: &Generation) -> String {
    generation.manifest.generation().to_string()
}

fn short(generation: &Generation) -> String {
    generation.manifest.generation().short().to_string()
}

#[test]
fn status_says_what_the_machine_is_on_and_what_comes_next() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let now = status(&env);
    assert_eq!(now["format"], 1);
    assert_eq!(now["generation"], id(&first));
    assert_eq!(now["built"], now["running"]);
    assert_eq!(now["profile"], now["running"]);
    assert_eq!(now["armed"], false);
    for unset in ["awaiting", "holder", "phase", "failed", "held"] {
        assert_eq!(now[unset], Value::Null, "{unset}");
    }
    assert_eq!(now["runs"][0]["outcome"], "switched");
    says(
        &env,
        &[
            &format!("generation {}", id(&first)),
            "run none",
            "switched",
        ],
    );

    let second = env.publish(broken("2"), &[&first]);
    env.update().with(1);
    let now = status(&env);
    assert_eq!(now["generation"], id(&first));
    assert_eq!(now["failed"]["generation"], id(&second));
    assert!(now["failed"]["retry_at"].is_string());
    assert_eq!(now["runs"][1]["outcome"], "build_failed");
    let failed = format!(
        "failed generation {}, tried again at the next run",
        short(&second)
    );
    // Issue 10, line 42: as the states of `bento status` are spelled.
    let run = format!("build-failed {}", short(&second));
    says(&env, &[&failed, &run, "undefined variable 'nonsense'"]);

    env.ask("hold", &["--for", "4h"]).with(0);
    assert!(status(&env)["held"].is_string());
    says(&env, &["`bento-client hold off` ends that"]);
    env.ask("hold", &["off"]).with(0);

    let third = env.publish(flake("3"), &[&first]);
    env.update_with(&["--at-boot"]).with(0);
    let now = status(&env);
    assert_eq!(now["awaiting"], id(&third));
    assert_eq!(now["boot"], "staged");
    assert_eq!(now["reboot_required"], true);
    assert_eq!(now["failed"], Value::Null);
    says(&env, &[&format!("next boot generation {}", short(&third))]);
}

// Issue 10, line 25.
#[test]
fn a_server_that_is_away_and_a_key_that_is_still_to_come_are_said_until_they_are_there() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    let settings = env.settings(&env.server.host_key, "");
    let key = fs::read(env.path("key")).unwrap();
    fs::remove_file(env.path("key")).unwrap();
    let said = "this machine has no key yet, and so isn't updated";
    let since = |env: &ClientEnv| status(env)["no_contact"]["since"].clone();
    env.ask("has-key", &[]).with(2).complaining(said);
    let first = since(&env);
    assert!(first.is_string(), "{first}");
    says(&env, &["no contact since", said]);
    // An update by hand fails with the reason.
    env.update().with(2);

    fs::write(env.path("key"), &key).unwrap();
    fs::set_permissions(env.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    env.ask("has-key", &[]).with(0).without_complaint();
    let away = format!("port = {}", server::free_port());
    let served = format!("port = {}", env.server.port);
    env.write_settings(&settings.replace(&served, &away));
    for _ in 0..2 {
        env.update().with(4);
        says(&env, &["can't be reached: Connection refused"]);
        assert_eq!(since(&env), first);
    }
    env.write_settings(&settings);
    env.update().with(0);
    assert_eq!(status(&env)["no_contact"], Value::Null);

    // A key that is lost, and settings that are wrong, are the update's to complain of.
    fs::remove_file(env.path("key")).unwrap();
    env.ask("has-key", &[]).with(0).without_complaint();
    env.write_settings("nonsense");
    env.ask("has-key", &[]).with(0).without_complaint();
    env.update().with(2);
    // So is a state that lies where Nix can't build it.
    env.write_settings(&settings);
    fs::remove_file(env.state("installed.json")).unwrap();
    fs::rename(env.path("state"), env.path("a disk")).unwrap();
    symlink("a disk", env.path("state")).unwrap();
    env.ask("has-key", &[]).with(0).without_complaint();
    env.update().with(2).complaining("the state folder");
}

#[test]
fn status_says_what_is_going_on_and_what_was_cut_short() {
    let mut env = ClientEnv::new();
    let gate = Gate::new(&env);
    let slow = format!("{}\nactivate", gate.wait());
    env.publish(with(flake("1"), "config/activation.sh", &slow), &[]);
    let running = Running::start(env.client("update"));
    gate.await_arrival();
    let now = status(&env);
    assert_eq!(now["holder"], running.number());
    assert_eq!(now["phase"], "activate");
    assert_eq!(now["armed"], true);
    let process = format!("(process {})", running.number());
    says(&env, &["an update is in its phase activate", &process]);

    running.kill();
    assert_eq!(status(&env)["holder"], Value::Null);
    says(
        &env,
        &[
            "a run was cut short in its phase activate",
            "the old system comes back unless",
        ],
    );
    gate.open();
    env.update().with(0);
    assert_eq!(status(&env)["armed"], false);
    says(&env, &["run none"]);
}

#[test]
fn a_system_that_is_still_to_be_proven_is_not_one_that_somebody_switched_to() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let gate = Gate::new(&env);
    let slow = format!("activate\n{}", gate.wait());
    let second = with(flake("2"), "config/activation.sh", &slow);
    env.publish(second, &[&first]);
    let running = Running::start(env.client("update"));
    gate.await_arrival();
    assert_eq!(env.running().as_deref(), Some("2"));
    let now = status(&env);
    assert_eq!(now["generation"], id(&first));
    assert_eq!(now["drifted"], false);
    gate.open();
    running.end().with(0);
}

#[test]
fn status_knows_a_boot_that_is_not_proven_one_that_goes_back_and_one_that_went_back() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let check = "[[health.checks]]\nname = \"web\"\n\
        command = [\"sh\", \"-c\", \"grep -qv 2 $MACHINE_ROOT/run/current-system/nixos-version\"]";
    env.configure(check);
    let second = env.publish(flake("2"), &[&first]);
    let old = fs::read_link(env.path(CURRENT)).unwrap();
    env.update_with(&["--at-boot"]).with(0);
    env.reboot();
    let boot_of = |env: &ClientEnv, state: &str, reboot_required: bool| {
        let now = status(env);
        assert_eq!(now["boot"], state);
        assert_eq!(now["awaiting"], Value::Null);
        assert_eq!(now["drifted"], false);
        assert_eq!(now["reboot_required"], reboot_required);
        let text = env.ask("status", &[]).with(0).stdout;
        assert!(!text.contains("not what was built"), "{text}");
        let next = format!("next boot   generation {}", short(&second));
        assert!(!text.contains(&next), "{text}");
    };
    boot_of(&env, "unproven", false);
    let proof = format!("last boot generation {}, not proven yet", short(&second));
    says(&env, &[&proof]);

    // There is nothing here that could reboot.
    env.update().with(3);
    boot_of(&env, "returning", true);
    let back = format!("next boot back to {}", old.display());
    let failed = format!("last boot generation {}, which failed", short(&second));
    says(&env, &[&failed, &back, "health check web"]);
    let reports = env.reports().len();
    env.ask("report", &[]).with(0);
    let report = env.last_report();
    assert_eq!(env.reports().len(), reports + 1);
    assert_eq!(report.outcome, Outcome::RollbackFailed);
    assert_eq!(report.generation, second.manifest.generation());

    env.reboot();
    boot_of(&env, "returned", false);
    let back = format!("last boot back from generation {}", short(&second));
    says(&env, &[&back, "health check web"]);
    env.update().with(1);
    boot_of(&env, "idle", false);
    env.is_wholly_on("1");
}

#[test]
fn status_knows_a_boot_loader_that_went_back() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let old = fs::read_link(env.path(CURRENT)).unwrap();
    let second = env.publish(flake("2"), &[&first]);
    env.update_with(&["--at-boot"]).with(0);
    env.reboot_into(&old);
    let now = status(&env);
    assert_eq!(now["boot"], "fell_back");
    assert_eq!(now["awaiting"], Value::Null);
    assert_eq!(now["drifted"], false);
    let given_up = format!("last boot not generation {}", short(&second));
    says(&env, &[&given_up]);
    // A report doesn't wait for an update to say so.
    env.ask("report", &[]).with(0);
    assert_eq!(env.last_report().outcome, Outcome::RolledBack);
    assert_eq!(status(&env)["boot"], "idle");
    env.is_wholly_on("1");
}

#[test]
fn a_rollback_by_hand_is_reported_left_alone_and_undone_on_request() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let second = env.publish(flake("2"), &[&first]);
    env.update().with(0);
    env.ask("rollback", &[]).with(0);
    env.is_wholly_on("1");
    says(
        &env,
        &["not what was built:", "bento-client update --retry"],
    );
    // Issue 10, line 26.
    let error = env.last_report().error.unwrap();
    assert!(error.contains("`bento-client rollback`"), "{error}");
    for _ in 0..2 {
        env.update().with(0);
    }
    env.is_wholly_on("1");
    // Drifted, by what the appliance makes of it: it runs another system than it built.
    assert_eq!(env.reports().len(), 3);
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.generation, second.manifest.generation());
    assert_ne!(report.system.built, report.system.running);

    let said = env.update().with(0).stdout;
    assert!(said.contains("bento-client update --retry"), "{said}");
    env.update_with(&["--retry"]).with(0);
    env.is_wholly_on("2");
    assert_eq!(env.last_report().outcome, Outcome::Switched);
    // A generation that comes to the same system leaves what ran before it known.
    env.publish(with(flake("2"), "config/comment", "# nothing"), &[]);
    env.update().with(0);
    env.ask("rollback", &[]).with(0);
    env.is_wholly_on("1");

    env.publish(flake("3"), &[]);
    env.update().with(0);
    env.is_wholly_on("3");
}

#[test]
fn without_an_update_there_is_nothing_to_go_back_to() {
    let env = ClientEnv::new();
    env.ask("rollback", &[])
        .with(3)
        .complaining("nothing is known that ran before the last update");
    env.is_wholly_on("0");
    says(&env, &["none installed yet"]);
}
