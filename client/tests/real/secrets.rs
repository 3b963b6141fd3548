//! When secrets change.

use std::fs;

use bento_protocol::Outcome;

use crate::ground::{Ground, broken, flake, with};
use crate::publisher::Content;

fn with_token(contents: Vec<Content>, token: &str) -> Vec<Content> {
    with(contents, "secrets/token", token)
}

#[track_caller]
fn token_is(ground: &Ground, token: &str) {
    let path = ground.state("secrets/token");
    assert_eq!(fs::read_to_string(path).unwrap(), token);
}

/// Notes the token that is in place, from a script.
fn note_token(ground: &Ground, file: &str) -> String {
    let (token, file) = (ground.state("secrets/token"), ground.path(file));
    format!("cat {} > {}", token.display(), file.display())
}

#[test]
fn secrets_change_with_the_activation_and_not_before() {
    let mut ground = Ground::new();
    let first = ground.publish(with_token(flake("1"), "one"), &[]);
    ground.update().with(0);
    let build = format!(
        "{}\n{}",
        include_str!("fixtures/build.sh"),
        note_token(&ground, "at-build")
    );
    let activation = format!("{}\nactivate", note_token(&ground, "at-activation"));
    let next = with(flake("2"), "config/build.sh", &build);
    let next = with(next, "config/activation.sh", &activation);
    ground.publish(with_token(next, "two"), &[&first]);
    ground.update().with(0);
    let noted = |file| fs::read_to_string(ground.path(file)).unwrap();
    assert_eq!(noted("at-build"), "one");
    assert_eq!(noted("at-activation"), "two");
    token_is(&ground, "two");
}

#[test]
fn secrets_stay_with_the_system_that_runs_when_the_new_one_fails() {
    let mut ground = Ground::new();
    let first = ground.publish(with_token(flake("1"), "one"), &[]);
    ground.update().with(0);
    let second = ground.publish(with_token(broken("2"), "two"), &[&first]);
    ground.update().with(1);
    token_is(&ground, "one");
    let fails = with(flake("3"), "config/activation.sh", "activate; exit 1");
    ground.publish(with_token(fails, "three"), &[&second]);
    ground.update().with(3);
    token_is(&ground, "one");
    // The old system had them back before it was switched to.
    let notes = format!("{}\nactivate", note_token(&ground, "noted"));
    let third = with(flake("4"), "config/activation.sh", &notes);
    ground.publish(with_token(third, "four"), &[]);
    ground.update().with(0);
    let fails = with(flake("5"), "config/activation.sh", "activate; exit 1");
    ground.publish(with_token(fails, "five"), &[]);
    fs::remove_file(ground.path("noted")).unwrap();
    ground.update().with(3);
    assert_eq!(fs::read_to_string(ground.path("noted")).unwrap(), "four");
}

#[test]
fn a_change_of_secrets_alone_is_an_update_like_any_other() {
    let mut ground = Ground::new();
    let first = ground.publish(with_token(flake("1"), "one"), &[]);
    ground.update().with(0);
    let second = ground.publish(with_token(flake("1"), "two"), &[&first]);
    ground.update().with(0).without_complaint();
    token_is(&ground, "two");
    ground.is_wholly_on("1");
    let report = ground.last_report();
    assert_eq!(report.generation, second.manifest.generation());
    assert_eq!(report.outcome, Outcome::Switched);

    // They are taken back by a health check, too, though the system stays the same.
    let is_not_three = format!(
        "[[health.checks]]\nname = \"token\"\ncommand = [\"grep\", \"-qv\", \"three\", {:?}]\n",
        ground.state("secrets/token")
    );
    ground.configure(&is_not_three);
    ground.publish(with_token(flake("1"), "three"), &[&second]);
    ground.update().with(3);
    token_is(&ground, "two");
    ground.is_wholly_on("1");
}
