//! What is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bento_protocol::{ReportName, RunId};

use crate::env::{CURRENT, ClientEnv, NAME, broken, flake, with};

/// All that there is in a folder, without what is named for a generation.
fn entries(folder: &Path) -> BTreeSet<String> {
    let found = std::process::Command::new("find")
        .arg(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    let name = |line: &str| {
        let parts = line.split('/');
        let parts = parts.map(|part| if part.len() == 64 { "<id>" } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    text.lines().map(name).collect()
}

#[test]
fn many_updates_leave_no_more_behind_than_a_few() {
    let mut env = ClientEnv::new();
    let mut left = Vec::new();
    for number in 1..=30 {
        let version = number.to_string();
        let fails = with(flake(&version), "config/activation.sh", "activate; exit 1");
        let (contents, code) = match number % 5 {
            3 => (fails, 3),
            4 => (broken(&version), 1),
            _ => (flake(&version), 0),
        };
        env.publish(with(contents, "secrets/token", &version), &[]);
        env.update().with(code);
        if number % 10 == 0 {
            left.push((entries(&env.path("state")), env.roots().len()));
        }
    }
    env.is_wholly_on("30");
    assert_eq!(left[0], left[1]);
    assert_eq!(left[1], left[2]);
}

#[test]
fn of_too_many_reports_the_oldest_are_dropped_and_counted() {
    let mut env = ClientEnv::new();
    env.publish(broken("1"), &[]);
    let inbox = env.server.publication(NAME).join("logs");
    let permissions = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&inbox, permissions(0o700)).unwrap();
    env.update().with(1);
    let spool = env.state("spool");
    let first = spool.join(&env.state_names("spool")[0]);
    // As many runs as it takes, without their builds.
    for number in 2..=51 {
        let name = ReportName {
            run: RunId::now(),
            attempt: 1,
        };
        fs::copy(&first, spool.join(format!("{number:08}-{name}"))).unwrap();
    }
    env.update_with(&["--retry"])
        .with(1)
        .complaining("too many reports wait: the 2 oldest were dropped");
    let names = env.state_names("spool");
    assert_eq!(names.len(), 50);
    assert!(names[0].starts_with("00000003-"), "{}", names[0]);

    fs::set_permissions(&inbox, permissions(0o730)).unwrap();
    env.update().with(1);
    assert_eq!(env.reports().len(), 50);
    assert_eq!(env.state_names("spool"), [""; 0]);
}

// Issue 10, line 30.
#[test]
fn a_rollback_names_what_garbage_collection_took() {
    let mut env = ClientEnv::new();
    let before = fs::canonicalize(env.path(CURRENT)).unwrap();
    env.publish(flake("1"), &[]);
    env.update().with(0);
    env.reboot();
    let collected = env
        .environment("nix-collect-garbage")
        .arg("-d")
        .output()
        .unwrap();
    assert!(collected.status.success(), "{collected:?}");
    assert!(!before.exists());
    env.ask("rollback", &[])
        .with(3)
        .complaining(before.to_str().unwrap())
        .complaining("is gone from the Nix store");
    env.is_wholly_on("1");
}
