use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bento_protocol::{Outcome, ReportName};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::env::{CURRENT, ClientEnv, NAME, broken, flake};

/// Lets the inbox take reports, or not.
fn open_inbox(env: &ClientEnv, open: bool) -> PathBuf {
    let inbox = env.server.publication(NAME).join("logs");
    let mode = if open { 0o730 } else { 0o700 };
    fs::set_permissions(&inbox, Permissions::from_mode(mode)).unwrap();
    inbox
}

#[test]
fn reports_wait_and_arrive_in_order() {
    let mut env = ClientEnv::new();
    env.publish(broken("1"), &[]);
    open_inbox(&env, false);
    for arguments in [&[][..], &["--retry"]] {
        env.update_with(arguments)
            .with(1)
            .complaining("waits for the next run");
    }
    env.publish(flake("2"), &[]);
    open_inbox(&env, false);
    // A report that waits is no reason to call a success a failure.
    env.update().with(0).complaining("waits for the next run");
    // Nothing changed since, so there is nothing more to report.
    env.update().with(0).complaining("waits for the next run");
    assert_eq!(env.state_names("spool").len(), 3);
    assert_eq!(env.reports().len(), 0);

    open_inbox(&env, true);
    env.update().with(0).without_complaint();
    let outcomes: Vec<_> = env.reports().iter().map(|report| report.outcome).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::BuildFailed,
            Outcome::BuildFailed,
            Outcome::Switched
        ]
    );
    assert_eq!(env.state_names("spool"), [""; 0]);
    env.update().with(0);
    assert_eq!(env.reports().len(), 3);
}

#[test]
fn a_report_whose_name_is_taken_by_a_cut_upload_is_sent_again_under_the_next() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    let inbox = open_inbox(&env, false);
    env.update().with(0);
    let spooled = env.state_names("spool");
    let waiting: ReportName = spooled[0].split_once('-').unwrap().1.parse().unwrap();
    fs::write(inbox.join(waiting.to_string()), "half").unwrap();
    open_inbox(&env, true);
    env.update().with(0).without_complaint();
    let reports = env.server.reports(NAME);
    assert_eq!(reports.len(), 1);
    let expected = ReportName {
        attempt: waiting.attempt + 1,
        ..waiting
    };
    assert_eq!(reports[0].0, expected);
    assert_eq!(fs::read(inbox.join(waiting.to_string())).unwrap(), b"half");
}

/// A server whose power fails after it has said that it has a report must still have it.
#[test]
fn a_report_that_counts_as_delivered_is_on_the_servers_disk() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    let calls = env
        .server
        .calls("openat,fsync", || drop(env.update().with(0)));
    let (_, after) = calls.split_once(".report.gz\"").unwrap_or_default();
    assert!(after.contains("fsync("), "{calls}");
    assert_eq!(env.reports().len(), 1);
}

/// An appliance that was restored from a copy of its state lacks the reports that came since.
#[test]
fn a_report_of_a_day_ago_is_sent_again() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.update().with(0);
    env.update().with(0);
    assert_eq!(env.reports().len(), 1);
    for (age, reports) in [(23, 1), (25, 2), (-25, 3)] {
        let path = env.state("delivered.json");
        let mut delivered: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let at = Timestamp::now() - SignedDuration::from_hours(age);
        delivered["at"] = at.to_string().into();
        fs::write(&path, delivered.to_string()).unwrap();
        for _ in 0..2 {
            env.update().with(0).without_complaint();
        }
        assert_eq!(env.reports().len(), reports, "{age} hours");
    }
    let reports: Vec<_> = env.reports();
    assert!(
        reports
            .iter()
            .all(|report| report.generation == reports[0].generation)
    );
    assert_eq!(reports[2].outcome, Outcome::Unchanged);
}

#[test]
fn a_report_that_was_damaged_here_holds_nothing_up() {
    let mut env = ClientEnv::new();
    env.publish(broken("1"), &[]);
    open_inbox(&env, false);
    env.update().with(1);
    let spooled = &env.state_names("spool")[0];
    fs::write(env.state("spool").join(spooled), "noise").unwrap();
    open_inbox(&env, true);
    env.update_with(&["--retry"])
        .with(1)
        .complaining("a report is lost");
    assert_eq!(env.reports().len(), 1);
}

/// Lets another system run, as somebody does by hand; gives the one that ran.
fn run_by_hand(env: &ClientEnv, system: &Path) -> PathBuf {
    let current = env.path(CURRENT);
    let before = fs::read_link(&current).unwrap();
    fs::remove_file(&current).unwrap();
    symlink(system, &current).unwrap();
    before
}

#[test]
fn a_report_that_could_not_be_kept_but_was_sent_counts_as_known() {
    let mut env = ClientEnv::new();
    let old = fs::read_link(env.path(CURRENT)).unwrap();
    env.publish(flake("1"), &[]);
    env.update().with(0);
    // Nothing can be created there.
    fs::remove_dir(env.state("spool")).unwrap();
    symlink("/proc/sys", env.state("spool")).unwrap();
    let new = run_by_hand(&env, &old);
    env.update().complaining("can't be kept");
    assert_eq!(env.reports().len(), 2);
    run_by_hand(&env, &new);
    env.update().complaining("can't be kept");
    let reports = env.reports();
    assert_eq!(reports.len(), 3, "it learned that all is well again");
    assert_eq!(reports[2].system.running, reports[0].system.running);
    env.update().with(0).without_complaint();
    assert_eq!(env.reports().len(), 3);
}

#[test]
fn another_server_gets_the_reports_that_it_lacks() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.update().with(0);
    let settings = env.settings(&env.server.host_key, "");
    env.write_settings(&settings.replace("127.0.0.1", "localhost"));
    for _ in 0..2 {
        env.update().with(0).without_complaint();
        assert_eq!(env.reports().len(), 2);
    }
}

// Issue 10, line 27.
#[test]
fn a_report_on_request_is_sent_though_nothing_changed_and_says_whether_it_arrived() {
    let mut env = ClientEnv::new();
    env.ask("report", &[])
        .with(4)
        .complaining("Perhaps nothing is published");
    env.publish(flake("1"), &[]);
    env.ask("report", &[])
        .with(1)
        .complaining("`bento-client update`");
    env.update().with(0);
    let ended = env.ask("report", &[]).with(0).without_complaint();
    assert!(
        ended.stdout.contains("was delivered to 127.0.0.1"),
        "{}",
        ended.stdout
    );
    assert_eq!(env.reports().len(), 2);
    assert_eq!(env.last_report().outcome, Outcome::Unchanged);
    open_inbox(&env, false);
    env.ask("report", &[])
        .with(4)
        .complaining("it waits for the next run");
    assert_eq!(env.reports().len(), 2);
    open_inbox(&env, true);
    env.update().with(0);
    assert_eq!(env.reports().len(), 3);
}
