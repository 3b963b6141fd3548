//! What must work on the new system, and what follows where it doesn't.

use std::fs;

use bento_protocol::Outcome;

use crate::env::{ClientEnv, flake, with};
use crate::publisher::Content;
use crate::server;

/// Fails on version 2.
const NOT_ON_2: &str = "[[health.checks]]\nname = \"web\"\ntimeout = \"1s\"\n\
    command = [\"sh\", \"-c\", \"grep -qv 2 $MACHINE_ROOT/run/current-system/nixos-version || { echo no answer; COMPLAINT; }\"]\n";

fn failing_on_2_with(complaint: &str) -> String {
    NOT_ON_2.replace("COMPLAINT", complaint)
}

fn with_token(version: &str) -> Vec<Content> {
    let secret = format!("the token of {version}");
    with(flake(version), "secrets/token", &secret)
}

/// A machine on version 1 for which version 2 is published.
fn about_to_update(settings: &str) -> ClientEnv {
    let mut env = ClientEnv::new();
    env.configure(settings);
    let first = env.publish(with_token("1"), &[]);
    env.update().with(0);
    env.publish(with_token("2"), &[&first]);
    env
}

#[track_caller]
fn is_back(env: &ClientEnv) {
    env.is_wholly_on("1");
    let token = fs::read_to_string(env.state("secrets/token")).unwrap();
    assert_eq!(token, "the token of 1");
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(report.system.running, report.system.before);
}

#[test]
fn a_health_check_that_fails_takes_the_new_system_back_for_good() {
    let env = about_to_update(&failing_on_2_with("exit 7"));
    env.update()
        .with(3)
        .complaining("the new system isn't healthy")
        .complaining("health check web: ended with exit code 7")
        .complaining("> no answer");
    is_back(&env);
    let report = env.last_report();
    assert!(
        report
            .error
            .unwrap()
            .contains("web: ended with exit code 7")
    );
    assert!(report.log.contains("web: no answer"), "{}", report.log);

    let calls = env.switches();
    env.update().with(1).complaining("is known to have failed");
    assert_eq!(env.switches(), calls);
    assert_eq!(env.reports().len(), 2);
    env.configure("");
    env.update_with(&["--retry"]).with(0).without_complaint();
    env.is_wholly_on("2");
    assert_eq!(env.last_report().outcome, Outcome::Switched);
}

#[test]
fn a_health_check_that_hangs_is_ended() {
    let env = about_to_update(&failing_on_2_with("sleep 600"));
    env.update().with(3).complaining("timed out after 1 s");
    is_back(&env);
}

#[test]
fn a_health_check_that_leaves_something_running_is_over_when_it_ends() {
    let env = about_to_update(&failing_on_2_with("sleep 600 & exit 0"));
    env.update().with(0).without_complaint();
    env.is_wholly_on("2");
}

#[test]
fn a_new_systems_own_required_check_decides_and_its_wanted_one_only_warns() {
    let bringing = |version: &str, kind: &str| {
        let mut contents = with_token(version);
        contents.push(Content::executable(
            &format!("config/etc/bento/health.d/{kind}/mail"),
            "#!/bin/sh\necho the queue is stuck\nexit 1\n",
        ));
        contents
    };
    let mut env = ClientEnv::new();
    env.publish(bringing("1", "wanted"), &[]);
    env.update()
        .with(0)
        .complaining("health check wanted/mail: ended with exit code 1");
    env.is_wholly_on("1");
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::Switched);
    assert!(report.error.unwrap().contains("the queue is stuck"));

    env.publish(bringing("2", "required"), &[]);
    env.update()
        .with(3)
        .complaining("health check required/mail: ended with exit code 1");
    is_back(&env);
}

#[test]
fn a_system_that_cannot_reach_the_appliance_goes_and_is_tried_again_ever_more_rarely() {
    let mut env = ClientEnv::new();
    let brief = "confirm.grace = \"1s\"";
    let good = env.settings(&env.server.host_key, brief);
    let nobody = server::free_port();
    let lost = good.replace(&env.server.port.to_string(), &nobody.to_string());
    let bringing = |version: &str, settings: &str| {
        with(
            with_token(version),
            "config/etc/bento/client.toml",
            settings,
        )
    };
    env.write_settings(&good);
    env.publish(bringing("1", &good), &[]);
    env.update().with(0);
    env.publish(bringing("2", &lost), &[]);
    for reports in 2..=3 {
        env.update()
            .with(3)
            .complaining("can't be reached from the new system within 1 s")
            .complaining(&format!("127.0.0.1:{nobody}"));
        is_back(&env);
        assert_eq!(env.reports().len(), reports);
    }
    env.update()
        .with(1)
        .complaining("is tried again after")
        .complaining("can't be reached from the new system");
    assert_eq!(env.reports().len(), 3);
}

/// Settings with which the appliance is reached unless a file is there.
fn through_a_network_that_fails(env: &ClientEnv, grace: &str) -> String {
    let down = env.path("down");
    format!(
        "proxy_command = \"[ ! -e {} ] && exec bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'\"\n\
         confirm.grace = \"{grace}\"\n",
        down.display()
    )
}

#[test]
fn a_system_that_kills_the_network_goes_and_the_report_arrives_with_the_old_one() {
    let mut env = ClientEnv::new();
    let settings = through_a_network_that_fails(&env, "2s");
    env.configure(&settings);
    let down = env.path("down").display().to_string();
    let works = with(
        with_token("1"),
        "config/activation.sh",
        &format!("activate; rm -f {down}"),
    );
    env.publish(works, &[]);
    env.update().with(0);
    let kills = with(
        with_token("2"),
        "config/activation.sh",
        &format!("activate; touch {down}"),
    );
    env.publish(kills, &[]);
    env.update()
        .with(3)
        .complaining("can't be reached from the new system within 2 s");
    is_back(&env);
    assert_eq!(env.reports().len(), 2);
    assert_eq!(env.state_names("spool"), [""; 0]);
}

#[test]
fn a_network_that_the_switch_restarts_is_waited_for() {
    let mut env = ClientEnv::new();
    let settings = through_a_network_that_fails(&env, "30s");
    env.configure(&settings);
    let down = env.path("down").display().to_string();
    let restarts = format!("activate; touch {down}; {{ sleep 1; rm {down}; }} > /dev/null 2>&1 &");
    env.publish(with(flake("1"), "config/activation.sh", &restarts), &[]);
    env.update().with(0).without_complaint();
    env.is_wholly_on("1");
}

#[test]
fn an_appliance_that_was_away_before_the_switch_is_no_reason_to_go_back() {
    let mut env = ClientEnv::new();
    let settings = through_a_network_that_fails(&env, "1s");
    env.configure(&settings);
    let down = env.path("down");
    let build = include_str!("fixtures/build.sh");
    let build = format!("{build}\ntouch {}\n", down.display());
    env.publish(with(flake("1"), "config/build.sh", &build), &[]);
    env.update()
        .with(0)
        .complaining("what was to be reported waits for the next run");
    env.is_wholly_on("1");
    assert_eq!(env.reports().len(), 0);
    fs::remove_file(down).unwrap();
    env.update().with(0).without_complaint();
    assert_eq!(env.reports().len(), 1);
    assert_eq!(env.last_report().outcome, Outcome::Switched);
}
