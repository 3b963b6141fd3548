//! Systems with which a machine could never be updated again.

use bento_protocol::Outcome;

use crate::ground::{Ground, carrying_on, flake, with};

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
