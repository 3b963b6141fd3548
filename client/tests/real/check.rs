use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use bento_tests::key;
use bento_tests::process::Output;

use crate::env::{ClientEnv, broken, flake};
use crate::server;

fn check(env: &ClientEnv) -> Output {
    Output::of(&mut env.client("check"))
}

#[test]
fn check_prints_what_an_update_would_do() {
    let mut env = ClientEnv::new();
    let generation = env.publish(flake("1"), &[]);
    let ended = check(&env).with(0).without_complaint();
    for said in [
        "mode 0600",
        "answers with the pinned host key SHA256:",
        "lets kikimora in",
        &format!("publishes generation {}", generation.manifest.generation()),
        "nothing by bento yet",
        "would pull, build and activate",
    ] {
        assert!(
            ended.stdout.contains(said),
            "{said:?} isn't in {}",
            ended.stdout
        );
    }
    assert!(!env.path("state").exists(), "check has changed something");
    env.update().with(0);
    let ended = check(&env).with(0);
    assert!(
        ended.stdout.contains("would do nothing"),
        "{}",
        ended.stdout
    );

    let json = env.client("check").arg("--json").output().unwrap();
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    assert!(
        findings.iter().all(|finding| finding["good"] == true),
        "{findings:?}"
    );
}

#[test]
fn what_an_update_would_leave_alone_is_said_with_the_way_out() {
    let says = |env: &ClientEnv, said: &str| {
        let ended = check(env).with(0);
        let update = ended.stdout.lines().find(|line| line.contains("would"));
        assert!(update.is_some_and(|line| line.contains(said)), "{update:?}");
    };
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let second = env.publish(flake("2"), &[&first]);
    env.update().with(0);
    env.ask("rollback", &[]).with(0);
    says(&env, "`bento-client update --retry` switches back");
    env.publish(broken("3"), &[&second]);
    env.update().with(1);
    says(&env, "would build and activate");
    env.update().with(1);
    says(&env, "is tried again after");
    env.ask("hold", &["--for", "4h"]).with(0);
    says(&env, "`bento-client hold off` ends that");
}

#[test]
fn what_is_not_good_decides_the_exit_code() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    fs::set_permissions(env.path("key"), Permissions::from_mode(0o644)).unwrap();
    let ended = check(&env).with(2).complaining("identity isn't good");
    assert!(ended.stdout.contains("chmod 600"), "{}", ended.stdout);
    // It goes on nevertheless.
    assert!(
        ended.stdout.contains("lets kikimora in"),
        "{}",
        ended.stdout
    );
    fs::remove_file(env.path("key")).unwrap();
    let ended = check(&env).with(2);
    for said in ["answers with the pinned host key", "couldn't work"] {
        assert!(
            ended.stdout.contains(said),
            "{said:?} isn't in {}",
            ended.stdout
        );
    }
    // Nothing is wrong with the server: it is the key, and so the update.
    let bad = ended.stdout.lines().filter(|line| line.starts_with("BAD "));
    assert_eq!(bad.count(), 2, "{}", ended.stdout);

    server::make_key(&env.path("other"));
    fs::rename(env.path("other"), env.path("key")).unwrap();
    let ended = check(&env).with(4);
    assert!(
        ended.stdout.contains("bento host add kikimora"),
        "{}",
        ended.stdout
    );
    let another = key::public(&env.path("other")).unwrap();
    env.write_settings(&env.settings(&another, ""));
    let ended = check(&env).with(4);
    for said in ["but pinned is SHA256:", "cp --remove-destination"] {
        assert!(
            ended.stdout.contains(said),
            "{said:?} isn't in {}",
            ended.stdout
        );
    }
    env.write_settings("name = 1");
    check(&env).with(2).complaining("line 1");
}

// Issue 10, line 31.
#[test]
fn settings_alone_are_read_where_there_is_nothing_else() {
    let env = ClientEnv::new();
    fs::remove_file(env.path("key")).unwrap();
    let read = |env: &ClientEnv| env.ask("check", &["--settings-only"]);
    read(&env).with(0).without_complaint();
    let typo = env.settings(&env.server.host_key, "tiemouts = {}");
    env.write_settings(&typo);
    read(&env).with(2).complaining("tiemouts");
    assert!(!env.path("state").exists(), "check has changed something");
}
