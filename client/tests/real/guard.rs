//! Systems with which a machine could never be updated again.

use bento_protocol::{Outcome, Policy};

use bento_tests::key;

use crate::env::{ClientEnv, carrying_on, flake, with};
use crate::publisher::Generation;
use crate::server::RENAMED;

fn guarded() -> ClientEnv {
    let env = ClientEnv::new();
    let settings = env.settings(&env.server.host_key, "");
    env.write_settings(&settings.replace("guard = false\n", ""));
    env
}

#[test]
fn a_system_that_would_not_carry_on_is_refused_unless_somebody_insists() {
    let mut env = guarded();
    env.publish(flake("1"), &[]);
    env.update()
        .with(1)
        .complaining("could never be updated again")
        .complaining("bento-update.timer")
        .complaining("client.toml");
    env.is_wholly_on("0");
    assert_eq!(env.switches(), [""; 0]);
    assert_eq!(env.last_report().outcome, Outcome::ActivationFailed);
    env.update().with(1).complaining("is known to have failed");
    // As the message says.
    env.update_with(&["--force"]).with(0);
    env.is_wholly_on("1");
}

#[test]
fn a_system_for_this_machine_passes_and_one_for_another_does_not() {
    let mut env = guarded();
    let settings = env.settings(&env.server.host_key, "");
    env.publish(carrying_on(flake("1"), &settings), &[]);
    env.update().with(0).without_complaint();
    let others = settings.replace("kikimora", "domovoi");
    let contents = carrying_on(flake("2"), &settings);
    let contents = with(contents, "config/etc/bento/client.toml", &others);
    env.publish(contents, &[]);
    // The settings that version 1 brought say nothing of a guard.
    env.write_settings(&settings.replace("guard = false\n", ""));
    env.update().with(1).complaining("domovoi");
    env.is_wholly_on("1");
}

// Issue 10, line 28.
#[test]
fn a_machine_that_was_renamed_takes_the_system_with_its_new_name_and_no_other() {
    let mut env = guarded();
    let settings = env.settings(&env.server.host_key, "");
    let renamed = settings.replace("kikimora", RENAMED);
    let contents = carrying_on(flake("1"), &renamed);
    let flake = include_str!("fixtures/flake.nix").replace("kikimora", RENAMED);
    let by_new_name = with(contents.clone(), "config/flake.nix", &flake);
    env.publish(contents, &[]);
    // Another machine's: its name is known to the appliance, with another key.
    env.server.enrol(RENAMED, &env.server.host_key);
    env.update()
        .with(1)
        .complaining("[hosts.leshy]")
        .complaining("renamed_from = \"kikimora\"");
    env.is_wholly_on("0");

    // As soon as the appliance knows it by that name, without a change of the generation.
    let key = key::public(&env.path("key")).unwrap();
    env.server.enrol(RENAMED, &key);
    let name = RENAMED.parse().unwrap();
    let by_new_name = Generation::new(&name, Policy::default(), by_new_name);
    env.server.publish(&by_new_name, &[]);
    env.update().with(0);
    env.is_wholly_on("1");
    env.write_settings(&renamed);
    env.update().with(0);
    let newest = env.server.reports(RENAMED).pop().unwrap().1;
    assert_eq!(newest.generation, by_new_name.manifest.generation());
    assert_eq!(newest.outcome, Outcome::Switched);
    assert_eq!(env.switches(), ["test 1", "boot 1"]);
}
