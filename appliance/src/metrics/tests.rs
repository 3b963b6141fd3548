use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use bento_protocol::{Outcome, Phase, Report};

use super::*;
use crate::fixture::Kept;
use crate::metrics::counters::Counters;
use crate::problem::Problem;
use crate::publication::published::Published;
use crate::report::fixture::{failure, generation, report, second};
use crate::sshd::SessionCounters;

/// The line of a metric, without its value.
fn value<'text>(text: &'text str, metric: &str) -> Option<&'text str> {
    text.lines()
        .find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))
}

fn phase(name: &str, seconds: f64) -> Phase {
    Phase {
        name: name.to_owned(),
        seconds,
    }
}

/// A fleet with one machine of each kind for metrics, and a running appliance.
fn kept() -> Kept {
    let kept = Kept::new(
        "[hosts.kikimora]\nsilent_after = \"1h\"\n[hosts.domovoi]\npaused = true\n[hosts.new]\n",
    );
    kept.publish("kikimora", &Published::new(generation('a'), second(5)));
    let mut success = report('0');
    success.phases = vec![phase("poll", 0.5)];
    let failed = Report {
        phases: vec![
            phase("poll", 0.125),
            phase("build", 61.0),
            phase("build", 62.0),
            phase("\"}\n\\ 1", 1.0),
        ],
        held: Some(second(100_000)),
        ..failure('a', Outcome::BuildFailed, '0')
    };
    kept.report("kikimora", &[success, failed]);
    kept.contact("kikimora", second(400));
    kept.publish("domovoi", &Published::new(generation('b'), second(6)));
    kept.report(
        "domovoi",
        &[Report {
            reboot_required: true,
            ..report('b')
        }],
    );
    kept.set_problems(&[Problem::new("fleet.toml:3", "is \"wrong\"", "mend it")]);
    let counters = Counters::default();
    counters.reports.add(7);
    let sessions = SessionCounters {
        authenticated: 2,
        ..SessionCounters::default()
    };
    let snapshot = counters.snapshot(second(0), sessions, 1);
    snapshot.write(&kept.runtime).unwrap();
    kept
}

fn render(kept: &Kept, now: Timestamp) -> String {
    MetricsReading::read(&kept.state, &kept.runtime, now)
        .unwrap()
        .render()
}

/// The output of promtool for a text, if it fails.
fn promtool(arguments: &[&str], text: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by tests/setup");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    if output.status.success() {
        String::new()
    } else {
        said
    }
}

#[test]
fn each_machine_has_its_state_and_its_times() {
    let text = render(&kept(), second(4_000));
    let is = |metric: &str, expected: &str| {
        assert_eq!(value(&text, metric), Some(expected), "{metric}\n{text}")
    };
    is(
        r#"bento_machine_state{machine="kikimora",state="failing"}"#,
        "1",
    );
    is(
        r#"bento_machine_state{machine="kikimora",state="up-to-date"}"#,
        "0",
    );
    is(
        r#"bento_machine_state{machine="domovoi",state="reboot-pending"}"#,
        "1",
    );
    is(
        r#"bento_machine_state{machine="new",state="unpublished"}"#,
        "1",
    );
    is(r#"bento_machines{state="failing"}"#, "1");
    is(r#"bento_machines{state="up-to-date"}"#, "0");
    is(r#"bento_machine_needs_attention{machine="kikimora"}"#, "1");
    is(r#"bento_machine_needs_attention{machine="domovoi"}"#, "0");
    is(r#"bento_machine_silent{machine="kikimora"}"#, "0");
    is(r#"bento_machine_held{machine="kikimora"}"#, "1");
    is(r#"bento_machine_paused{machine="domovoi"}"#, "1");
    is(r#"bento_machine_reboot_required{machine="domovoi"}"#, "1");
    is(r#"bento_machine_runs_total{machine="kikimora"}"#, "2");
    is(
        r#"bento_machine_last_contact_timestamp_seconds{machine="kikimora"}"#,
        "1767226000",
    );
    is(
        r#"bento_machine_last_contact_age_seconds{machine="kikimora"}"#,
        "3600",
    );
    is(
        r#"bento_machine_last_publication_age_seconds{machine="kikimora"}"#,
        "3995",
    );
    is(
        r#"bento_machine_last_success_age_seconds{machine="kikimora"}"#,
        "3999",
    );
    is(
        r#"bento_machine_phase_duration_seconds{machine="kikimora",phase="poll"}"#,
        "0.125",
    );
    is(
        r#"bento_machine_phase_duration_seconds{machine="kikimora",phase="build"}"#,
        "61",
    );
    // The phase that came twice, and the one that the machine invented, are left out.
    assert_eq!(text.matches("phase_duration_seconds{").count(), 2);
    is("bento_fleet_problems", "1");
    is("bento_up", "1");
    is("bento_problems", "1");
    is("bento_reports_total", "7");
    is(r#"bento_sessions{authenticated="yes"}"#, "2");
    is(r#"bento_sessions_ended_total{reason="grace"}"#, "0");
    // Unknown values are missing.
    assert_eq!(
        value(
            &text,
            r#"bento_machine_last_contact_age_seconds{machine="new"}"#
        ),
        None
    );
    let late = render(&kept(), second(4_001));
    assert_eq!(
        value(&late, r#"bento_machine_silent{machine="kikimora"}"#),
        Some("1")
    );
}

#[test]
fn without_an_appliance_only_the_fleet_is_known() {
    let kept = kept();
    std::fs::remove_file(kept.runtime.activity()).unwrap();
    std::fs::remove_file(kept.runtime.problems()).unwrap();
    let text = render(&kept, second(10));
    assert_eq!(value(&text, "bento_up"), Some("0"));
    assert!(!text.contains("bento_reports_total") && !text.contains("bento_fleet_problems"));
    assert!(text.contains(r#"bento_machine_state{machine="kikimora",state="failing"} 1"#));
    assert_eq!(promtool(&["check", "metrics"], &text), "");
}

#[test]
fn promtool_has_no_complaint() {
    let text = render(&kept(), second(4_000));
    assert_eq!(promtool(&["check", "metrics"], &text), "");
    // The check can fail.
    let wrong = text.replace("bento_reports_total", "bento_reports");
    assert_ne!(promtool(&["check", "metrics"], &wrong), "");
}

#[test]
fn the_example_of_alert_rules_uses_existing_metrics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rules = root.join("docs/alerts.yaml");
    assert_eq!(
        promtool(&["check", "rules", rules.to_str().unwrap()], ""),
        ""
    );
    for name in ["minutes", "days"] {
        let test = root.join(format!("tests/alerts/{name}.yaml"));
        assert_eq!(promtool(&["test", "rules", test.to_str().unwrap()], ""), "");
    }

    let text = render(&kept(), second(4_000));
    let known: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let rules = std::fs::read_to_string(rules).unwrap();
    let is_letter = |character: char| character.is_ascii_lowercase() || character == '_';
    let named: BTreeSet<&str> = rules
        .split(|character| !is_letter(character))
        .filter(|word| word.starts_with("bento_"))
        .collect();
    assert!(named.len() > 5);
    assert!(named.is_subset(&known), "{named:?} {known:?}");
}
