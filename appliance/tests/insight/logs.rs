//! `bento logs`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use bento_protocol::GenerationId;
use serde_json::Value;

use crate::env::{InsightEnv, printed, refusal, success};

const SYSTEM: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-system";

fn generation() -> GenerationId {
    "a".repeat(64).parse().unwrap()
}

#[test]
fn reports_are_listed_newest_first_and_one_is_shown_with_its_log_from_anywhere() {
    let env = InsightEnv::new(&["kikimora"]);
    let reports: Vec<_> = (0..3).map(|_| success(generation(), SYSTEM)).collect();
    for report in &reports {
        env.report("kikimora", report);
    }
    let text = printed(&mut env.here(&["logs", "kikimora", "-n", "2"]));
    let numbers: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(numbers, ["3", "2"], "{text}");
    assert_eq!(
        printed(&mut env.elsewhere(&["logs", "kikimora", "-n", "2"])),
        text
    );

    let json = printed(&mut env.elsewhere(&["logs", "kikimora", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["reports"][2]["run"], reports[0].run.to_string());

    let run = reports[1].run.to_string();
    let whole = printed(&mut env.elsewhere(&["logs", "kikimora", "--run", &run]));
    assert!(
        whole.contains(&run) && whole.ends_with("\nbuilding it\n"),
        "{whole}"
    );
    let json = printed(&mut env.here(&["logs", "kikimora", "--run", "2", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["report"]["run"], &json["log"]),
        (&run.into(), &"building it\n".into())
    );
}

#[test]
fn an_unknown_report_is_one_error_with_advice() {
    let env = InsightEnv::new(&["kikimora"]);
    for (arguments, says) in [
        (
            ["logs", "leshy", "-n", "1"],
            "bento: there is no machine leshy in the fleet: `bento host list`",
        ),
        (
            ["logs", "kikimora", "-n", "1"],
            "bento: kikimora has no reports yet: `bento status kikimora`",
        ),
        (
            ["logs", "kikimora", "--run", "1"],
            "bento: kikimora has no reports yet",
        ),
    ] {
        for said in [
            refusal(&mut env.here(&arguments)),
            refusal(&mut env.elsewhere(&arguments)),
        ] {
            assert!(said.starts_with(says), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}

#[test]
fn a_remote_follow_shows_each_report_until_its_reader_is_gone() {
    let env = InsightEnv::new(&["kikimora"]);
    env.report("kikimora", &success(generation(), SYSTEM));
    for mut command in [
        env.here(&["logs", "kikimora", "--follow", "--json", "-n", "1"]),
        env.elsewhere(&["logs", "kikimora", "--follow", "--json", "-n", "1"]),
    ] {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next =
            || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
        next();
        let report = success(generation(), SYSTEM);
        env.report("kikimora", &report);
        assert_eq!(next()["run"], report.run.to_string());
        // As `head` does when it has seen enough, while nothing more comes.
        drop(lines);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_list_that_nobody_reads_to_its_end_ends_quietly() {
    let env = InsightEnv::new(&["kikimora"]);
    let mut long = success(generation(), SYSTEM);
    long.log = "a line that is repeated\n".repeat(40_000);
    env.report("kikimora", &long);
    for mut command in [
        env.here(&["logs", "kikimora", "--run", "latest"]),
        env.elsewhere(&["logs", "kikimora", "--run", "latest"]),
    ] {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}
