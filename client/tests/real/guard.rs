//! Systems with which a machine could never be updated again.

use bento_protocol::{Outcome, Policy};

use crate::ground::{Ground, carrying_on, flake, with};
use crate::publisher::Generation;
use crate::server::{self, RENAMED};

fn guarded() -> Ground {
    let ground = Ground::new();
    let settings = ground.settings(&ground.server.host_key, "");
    ground.write_settings(&settings.replace("guard = false\n", ""));
    ground
}

#[test]
fn a_system_that_would_not_carry_on_is_refused_unless_somebody_insists() {
    let mut ground = guarded();
    ground.publish(flake("1"), &[]);
    ground
        .update()
        .with(1)
        .complaining("could never be updated again")
        .complaining("bento-update.timer")
        .complaining("client.toml");
    ground.is_wholly_on("0");
    assert_eq!(ground.switches(), [""; 0]);
    assert_eq!(ground.last_report().outcome, Outcome::ActivationFailed);
    ground
        .update()
        .with(1)
        .complaining("is known to have failed");
    // As the message says.
    ground.update_with(&["--force"]).with(0);
    ground.is_wholly_on("1");
}

#[test]
fn a_system_for_this_machine_passes_and_one_for_another_does_not() {
    let mut ground = guarded();
    let settings = ground.settings(&ground.server.host_key, "");
    ground.publish(carrying_on(flake("1"), &settings), &[]);
    ground.update().with(0).without_complaint();
    let others = settings.replace("kikimora", "domovoi");
    let contents = carrying_on(flake("2"), &settings);
    let contents = with(contents, "config/etc/bento/client.toml", &others);
    ground.publish(contents, &[]);
    // The settings that version 1 brought say nothing of a guard.
    ground.write_settings(&settings.replace("guard = false\n", ""));
    ground.update().with(1).complaining("domovoi");
    ground.is_wholly_on("1");
}

// Issue 10, line 28.
#[test]
fn a_machine_that_was_renamed_takes_the_system_with_its_new_name_and_no_other() {
    let mut ground = guarded();
    let settings = ground.settings(&ground.server.host_key, "");
    let renamed = settings.replace("kikimora", RENAMED);
    let contents = carrying_on(flake("1"), &renamed);
    let flake = include_str!("fixtures/flake.nix").replace("kikimora", RENAMED);
    let by_new_name = with(contents.clone(), "config/flake.nix", &flake);
    ground.publish(contents, &[]);
    // Another machine's: its name is known to the appliance, with another key.
    ground.server.enrol(RENAMED, &ground.server.host_key);
    ground
        .update()
        .with(1)
        .complaining("[hosts.leshy]")
        .complaining("renamed_from = \"kikimora\"");
    ground.is_wholly_on("0");

    // As soon as the appliance knows it by that name, without a change of the generation.
    let key = server::public_key(&ground.path("key"));
    ground.server.enrol(RENAMED, &key);
    let name = RENAMED.parse().unwrap();
    let by_new_name = Generation::new(&name, Policy::default(), by_new_name);
    ground.server.publish(&by_new_name, &[]);
    ground.update().with(0);
    ground.is_wholly_on("1");
    ground.write_settings(&renamed);
    ground.update().with(0);
    let newest = ground.server.reports(RENAMED).pop().unwrap().1;
    assert_eq!(newest.generation, by_new_name.manifest.generation());
    assert_eq!(newest.outcome, Outcome::Switched);
    assert_eq!(ground.switches(), ["test 1", "boot 1"]);
}
