//! What the machine's own commands say of it, and a rollback by hand.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use bento_protocol::Outcome;
use serde_json::Value;

use crate::ground::{CURRENT, Ground, broken, flake, with};
use crate::processes::{Gate, Running};
use crate::publisher::Generation;
use crate::server;

fn status(ground: &Ground) -> Value {
    let ended = ground
        .ask("status", &["--json"])
        .with(0)
        .without_complaint();
    serde_json::from_str(&ended.stdout).unwrap()
}

#[track_caller]
fn says(ground: &Ground, lines: &[&str]) {
    let text = ground.ask("status", &[]).with(0).without_complaint().stdout;
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
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let now = status(&ground);
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
        &ground,
        &[
            &format!("generation {}", id(&first)),
            "going on nothing",
            "switched",
        ],
    );

    let second = ground.publish(broken("2"), &[&first]);
    ground.update().with(1);
    let now = status(&ground);
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
    says(&ground, &[&failed, &run, "undefined variable 'nonsense'"]);

    ground.ask("hold", &["--for", "4h"]).with(0);
    assert!(status(&ground)["held"].is_string());
    says(&ground, &["`bento-client hold off` ends that"]);
    ground.ask("hold", &["off"]).with(0);

    let third = ground.publish(flake("3"), &[&first]);
    ground.update_with(&["--at-boot"]).with(0);
    let now = status(&ground);
    assert_eq!(now["awaiting"], id(&third));
    assert_eq!(now["boot"], "staged");
    assert_eq!(now["reboot_required"], true);
    assert_eq!(now["failed"], Value::Null);
    says(
        &ground,
        &[&format!("next boot generation {}", short(&third))],
    );
}

// Issue 10, line 25.
#[test]
fn a_server_that_is_away_and_a_key_that_is_still_to_come_are_said_until_they_are_there() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    let settings = ground.settings(&ground.server.host_key, "");
    let key = fs::read(ground.path("key")).unwrap();
    fs::remove_file(ground.path("key")).unwrap();
    let said = "this machine has no key yet, and so isn't updated";
    let since = |ground: &Ground| status(ground)["no_contact"]["since"].clone();
    ground.ask("has-key", &[]).with(2).complaining(said);
    let first = since(&ground);
    assert!(first.is_string(), "{first}");
    says(&ground, &["no contact since", said]);
    // Whoever asks for an update by hand is told that there can't be one.
    ground.update().with(2);

    fs::write(ground.path("key"), &key).unwrap();
    fs::set_permissions(ground.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    ground.ask("has-key", &[]).with(0).without_complaint();
    let away = format!("port = {}", server::free_port());
    let served = format!("port = {}", ground.server.port);
    ground.write_settings(&settings.replace(&served, &away));
    for _ in 0..2 {
        ground.update().with(4);
        says(&ground, &["can't be reached: Connection refused"]);
        assert_eq!(since(&ground), first);
    }
    ground.write_settings(&settings);
    ground.update().with(0);
    assert_eq!(status(&ground)["no_contact"], Value::Null);

    // A key that is lost, and settings that are wrong, are the update's to complain of.
    fs::remove_file(ground.path("key")).unwrap();
    ground.ask("has-key", &[]).with(0).without_complaint();
    ground.write_settings("nonsense");
    ground.ask("has-key", &[]).with(0).without_complaint();
    ground.update().with(2);
    // So is a state that lies where Nix can't build it.
    ground.write_settings(&settings);
    fs::remove_file(ground.state("installed.json")).unwrap();
    fs::rename(ground.path("state"), ground.path("a disk")).unwrap();
    symlink("a disk", ground.path("state")).unwrap();
    ground.ask("has-key", &[]).with(0).without_complaint();
    ground.update().with(2).complaining("the state folder");
}

#[test]
fn status_says_what_is_going_on_and_what_was_cut_short() {
    let mut ground = Ground::new();
    let gate = Gate::new(&ground);
    let slow = format!("{}\nactivate", gate.wait());
    ground.publish(with(flake("1"), "config/activation.sh", &slow), &[]);
    let running = Running::start(ground.client("update"));
    gate.await_arrival();
    let now = status(&ground);
    assert_eq!(now["holder"], running.number());
    assert_eq!(now["phase"], "activate");
    assert_eq!(now["armed"], true);
    let process = format!("(process {})", running.number());
    says(&ground, &["an update is in its phase activate", &process]);

    running.kill();
    assert_eq!(status(&ground)["holder"], Value::Null);
    says(
        &ground,
        &[
            "a run was cut short in its phase activate",
            "the old system comes back unless",
        ],
    );
    gate.open();
    ground.update().with(0);
    assert_eq!(status(&ground)["armed"], false);
    says(&ground, &["going on nothing"]);
}

#[test]
fn a_system_that_is_still_to_be_proven_is_not_one_that_somebody_switched_to() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let gate = Gate::new(&ground);
    let slow = format!("activate\n{}", gate.wait());
    let second = with(flake("2"), "config/activation.sh", &slow);
    ground.publish(second, &[&first]);
    let running = Running::start(ground.client("update"));
    gate.await_arrival();
    assert_eq!(ground.running().as_deref(), Some("2"));
    let now = status(&ground);
    assert_eq!(now["generation"], id(&first));
    assert_eq!(now["drifted"], false);
    gate.open();
    running.end().with(0);
}

#[test]
fn status_knows_a_boot_that_is_not_proven_one_that_goes_back_and_one_that_went_back() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let check = "[[health.checks]]\nname = \"web\"\n\
        command = [\"sh\", \"-c\", \"grep -qv 2 $MACHINE_ROOT/run/current-system/nixos-version\"]";
    ground.configure(check);
    let second = ground.publish(flake("2"), &[&first]);
    let old = fs::read_link(ground.path(CURRENT)).unwrap();
    ground.update_with(&["--at-boot"]).with(0);
    ground.reboot();
    let boot_of = |ground: &Ground, state: &str, reboot_required: bool| {
        let now = status(ground);
        assert_eq!(now["boot"], state);
        assert_eq!(now["awaiting"], Value::Null);
        assert_eq!(now["drifted"], false);
        assert_eq!(now["reboot_required"], reboot_required);
        let text = ground.ask("status", &[]).with(0).stdout;
        assert!(!text.contains("not what was built"), "{text}");
        let next = format!("next boot   generation {}", short(&second));
        assert!(!text.contains(&next), "{text}");
    };
    boot_of(&ground, "unproven", false);
    let proof = format!("last boot generation {}, not proven yet", short(&second));
    says(&ground, &[&proof]);

    // There is nothing here that could reboot.
    ground.update().with(3);
    boot_of(&ground, "returning", true);
    let back = format!("next boot back to {}", old.display());
    let failed = format!("last boot generation {}, which failed", short(&second));
    says(&ground, &[&failed, &back, "health check web"]);
    let reports = ground.reports().len();
    ground.ask("report", &[]).with(0);
    let report = ground.last_report();
    assert_eq!(ground.reports().len(), reports + 1);
    assert_eq!(report.outcome, Outcome::RollbackFailed);
    assert_eq!(report.generation, second.manifest.generation());

    ground.reboot();
    boot_of(&ground, "returned", false);
    let back = format!("last boot back from generation {}", short(&second));
    says(&ground, &[&back, "health check web"]);
    ground.update().with(1);
    boot_of(&ground, "idle", false);
    ground.is_wholly_on("1");
}

#[test]
fn status_knows_a_boot_loader_that_went_back() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let old = fs::read_link(ground.path(CURRENT)).unwrap();
    let second = ground.publish(flake("2"), &[&first]);
    ground.update_with(&["--at-boot"]).with(0);
    ground.reboot_into(&old);
    let now = status(&ground);
    assert_eq!(now["boot"], "fell_back");
    assert_eq!(now["awaiting"], Value::Null);
    assert_eq!(now["drifted"], false);
    let given_up = format!("last boot not generation {}", short(&second));
    says(&ground, &[&given_up]);
    // A report doesn't wait for an update to say so.
    ground.ask("report", &[]).with(0);
    assert_eq!(ground.last_report().outcome, Outcome::RolledBack);
    assert_eq!(status(&ground)["boot"], "idle");
    ground.is_wholly_on("1");
}

#[test]
fn a_rollback_by_hand_is_told_left_alone_and_undone_on_request() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let second = ground.publish(flake("2"), &[&first]);
    ground.update().with(0);
    ground.ask("rollback", &[]).with(0);
    ground.is_wholly_on("1");
    says(
        &ground,
        &["not what was built:", "bento-client update --retry"],
    );
    // Issue 10, line 26.
    let error = ground.last_report().error.unwrap();
    assert!(error.contains("`bento-client rollback`"), "{error}");
    for _ in 0..2 {
        ground.update().with(0);
    }
    ground.is_wholly_on("1");
    // Drifted, by what the appliance makes of it: it runs another system than it built.
    assert_eq!(ground.reports().len(), 3);
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!(report.generation, second.manifest.generation());
    assert_ne!(report.system.built, report.system.running);

    let said = ground.update().with(0).stdout;
    assert!(said.contains("bento-client update --retry"), "{said}");
    ground.update_with(&["--retry"]).with(0);
    ground.is_wholly_on("2");
    assert_eq!(ground.last_report().outcome, Outcome::Switched);
    // A generation that comes to the same system leaves what ran before it known.
    ground.publish(with(flake("2"), "config/comment", "# nothing"), &[]);
    ground.update().with(0);
    ground.ask("rollback", &[]).with(0);
    ground.is_wholly_on("1");

    ground.publish(flake("3"), &[]);
    ground.update().with(0);
    ground.is_wholly_on("3");
}

#[test]
fn without_an_update_there_is_nothing_to_go_back_to() {
    let ground = Ground::new();
    ground
        .ask("rollback", &[])
        .with(3)
        .complaining("nothing is known that ran before the last update");
    ground.is_wholly_on("0");
    says(&ground, &["none installed yet"]);
}
