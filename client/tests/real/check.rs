use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::ground::{Ended, Ground, broken, flake};
use crate::server;

fn check(ground: &Ground) -> Ended {
    Ended::of(ground.client("check").output().unwrap())
}

#[test]
fn a_machine_that_could_be_updated_is_told_what_would_happen() {
    let mut ground = Ground::new();
    let generation = ground.publish(flake("1"), &[]);
    let ended = check(&ground).with(0).without_complaint();
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
    assert!(
        !ground.path("state").exists(),
        "check has changed something"
    );
    ground.update().with(0);
    let ended = check(&ground).with(0);
    assert!(
        ended.stdout.contains("would do nothing"),
        "{}",
        ended.stdout
    );

    let json = ground.client("check").arg("--json").output().unwrap();
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    assert!(
        findings.iter().all(|finding| finding["good"] == true),
        "{findings:?}"
    );
}

#[test]
fn what_an_update_would_leave_alone_is_said_with_the_way_out() {
    let says = |ground: &Ground, said: &str| {
        let ended = check(ground).with(0);
        let update = ended.stdout.lines().find(|line| line.contains("would"));
        assert!(update.is_some_and(|line| line.contains(said)), "{update:?}");
    };
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let second = ground.publish(flake("2"), &[&first]);
    ground.update().with(0);
    ground.ask("rollback", &[]).with(0);
    says(&ground, "`bento-client update --retry` switches back");
    ground.publish(broken("3"), &[&second]);
    ground.update().with(1);
    says(&ground, "would build and activate");
    ground.update().with(1);
    says(&ground, "is tried again after");
    ground.ask("hold", &["--for", "4h"]).with(0);
    says(&ground, "`bento-client hold off` ends that");
}

#[test]
fn what_is_not_good_decides_the_exit_code() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    fs::set_permissions(ground.path("key"), Permissions::from_mode(0o644)).unwrap();
    let ended = check(&ground).with(2).complaining("identity isn't good");
    assert!(ended.stdout.contains("chmod 600"), "{}", ended.stdout);
    // It goes on nevertheless.
    assert!(
        ended.stdout.contains("lets kikimora in"),
        "{}",
        ended.stdout
    );
    fs::remove_file(ground.path("key")).unwrap();
    let ended = check(&ground).with(2);
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

    server::make_key(&ground.path("other"));
    fs::rename(ground.path("other"), ground.path("key")).unwrap();
    let ended = check(&ground).with(4);
    assert!(
        ended.stdout.contains("bento host add kikimora"),
        "{}",
        ended.stdout
    );
    let another = server::public_key(&ground.path("other"));
    ground.write_settings(&ground.settings(&another, ""));
    let ended = check(&ground).with(4);
    for said in ["but pinned is SHA256:", "cp --remove-destination"] {
        assert!(
            ended.stdout.contains(said),
            "{said:?} isn't in {}",
            ended.stdout
        );
    }
    ground.write_settings("name = 1");
    check(&ground).with(2).complaining("line 1");
}

// Issue 10, line 31.
#[test]
fn settings_alone_are_read_where_there_is_nothing_else() {
    let ground = Ground::new();
    fs::remove_file(ground.path("key")).unwrap();
    let read = |ground: &Ground| ground.ask("check", &["--settings-only"]);
    read(&ground).with(0).without_complaint();
    let typo = ground.settings(&ground.server.host_key, "tiemouts = {}");
    ground.write_settings(&typo);
    read(&ground).with(2).complaining("tiemouts");
    assert!(
        !ground.path("state").exists(),
        "check has changed something"
    );
}
