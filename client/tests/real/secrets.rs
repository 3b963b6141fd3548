//! When secrets change.

use std::fs;

use bento_protocol::Outcome;

use crate::env::{ClientEnv, broken, flake, with};
use crate::publisher::Content;

fn with_token(contents: Vec<Content>, token: &str) -> Vec<Content> {
    with(contents, "secrets/token", token)
}

#[track_caller]
fn token_is(env: &ClientEnv, token: &str) {
    let path = env.state("secrets/token");
    assert_eq!(fs::read_to_string(path).unwrap(), token);
}

/// Notes the token that is in place, from a script.
fn note_token(env: &ClientEnv, file: &str) -> String {
    let (token, file) = (env.state("secrets/token"), env.path(file));
    format!("cat {} > {}", token.display(), file.display())
}

#[test]
fn secrets_change_with_the_activation_and_not_before() {
    let mut env = ClientEnv::new();
    let first = env.publish(with_token(flake("1"), "one"), &[]);
    env.update().with(0);
    let build = format!(
        "{}\n{}",
        include_str!("fixtures/build.sh"),
        note_token(&env, "at-build")
    );
    let activation = format!("{}\nactivate", note_token(&env, "at-activation"));
    let next = with(flake("2"), "config/build.sh", &build);
    let next = with(next, "config/activation.sh", &activation);
    env.publish(with_token(next, "two"), &[&first]);
    env.update().with(0);
    let noted = |file| fs::read_to_string(env.path(file)).unwrap();
    assert_eq!(noted("at-build"), "one");
    assert_eq!(noted("at-activation"), "two");
    token_is(&env, "two");
}

#[test]
fn secrets_stay_with_the_system_that_runs_when_the_new_one_fails() {
    let mut env = ClientEnv::new();
    let first = env.publish(with_token(flake("1"), "one"), &[]);
    env.update().with(0);
    let second = env.publish(with_token(broken("2"), "two"), &[&first]);
    env.update().with(1);
    token_is(&env, "one");
    let fails = with(flake("3"), "config/activation.sh", "activate; exit 1");
    env.publish(with_token(fails, "three"), &[&second]);
    env.update().with(3);
    token_is(&env, "one");
    // The old system had them back before it was switched to.
    let notes = format!("{}\nactivate", note_token(&env, "noted"));
    let third = with(flake("4"), "config/activation.sh", &notes);
    env.publish(with_token(third, "four"), &[]);
    env.update().with(0);
    let fails = with(flake("5"), "config/activation.sh", "activate; exit 1");
    env.publish(with_token(fails, "five"), &[]);
    fs::remove_file(env.path("noted")).unwrap();
    env.update().with(3);
    assert_eq!(fs::read_to_string(env.path("noted")).unwrap(), "four");
}

#[test]
fn a_change_of_secrets_alone_is_an_update_like_any_other() {
    let mut env = ClientEnv::new();
    let first = env.publish(with_token(flake("1"), "one"), &[]);
    env.update().with(0);
    let second = env.publish(with_token(flake("1"), "two"), &[&first]);
    env.update().with(0).without_complaint();
    token_is(&env, "two");
    env.is_wholly_on("1");
    let report = env.last_report();
    assert_eq!(report.generation, second.manifest.generation());
    assert_eq!(report.outcome, Outcome::Switched);

    // They are taken back by a health check, too, though the system stays the same.
    let is_not_three = format!(
        "[[health.checks]]\nname = \"token\"\ncommand = [\"grep\", \"-qv\", \"three\", {:?}]\n",
        env.state("secrets/token")
    );
    env.configure(&is_not_three);
    env.publish(with_token(flake("1"), "three"), &[&second]);
    env.update().with(3);
    token_is(&env, "two");
    env.is_wholly_on("1");
}
