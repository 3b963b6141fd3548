//! docs/reference.md and docs/updates.md match the code.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

use std::fs;
use std::path::PathBuf;

use bento_appliance::fleet;
use bento_appliance::status::HostStatus;
use bento_client::settings::Settings;

fn document(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// The keys that an error about an unknown one names: "expected one of `a`, `b`", or "expected `a`".
fn expected(error: &str) -> Vec<String> {
    let (_, list) = error
        .split_once("expected ")
        .unwrap_or_else(|| panic!("the error doesn't say which keys there are: {error}"));
    let keys = list.split('`').skip(1).step_by(2);
    keys.map(str::to_owned).collect()
}

/// The part of a document that stands below a heading, up to the next one.
fn part<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no {heading}"));
    let text = &text[start + heading.len() + 2..];
    &text[..text.find("\n#").unwrap_or(text.len())]
}

/// The words in backquotes in the first columns of the tables of a text.
fn first_column(text: &str) -> Vec<String> {
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    text.lines().filter_map(cell).collect()
}

fn sorted(mut keys: Vec<String>) -> Vec<String> {
    keys.sort();
    keys
}

#[test]
fn the_reference_matches_the_commands() {
    let made = bento_manual::reference::text();
    assert!(
        document("reference.md") == made,
        "run: cargo run -p bento-manual -- reference > docs/reference.md"
    );
}

#[test]
fn the_reference_has_every_key_of_the_fleet() {
    let text = document("reference.md");
    let sections = [
        ("[server]\nno = 1\n", "### [server]"),
        (
            "[server]\naddress = \"a\"\n[publish]\nno = 1\n",
            "### [publish]",
        ),
        (
            "[server]\naddress = \"a\"\n[notify]\nno = 1\n",
            "### [notify]",
        ),
        (
            "[server]\naddress = \"a\"\n[defaults]\nno = 1\n",
            "### [defaults] and [hosts.NAME]",
        ),
    ];
    for (fleet, heading) in sections {
        let problems = fleet::read(fleet).unwrap_err();
        let keys = expected(&problems[0].what);
        assert_eq!(
            sorted(first_column(part(&text, heading))),
            sorted(keys),
            "{heading}"
        );
    }
}

#[test]
fn the_reference_has_every_state_in_order() {
    let states: Vec<_> = HostStatus::ALL.iter().map(ToString::to_string).collect();
    let text = document("reference.md");
    assert_eq!(first_column(part(&text, "## States of a machine")), states);
}

#[test]
fn the_reference_has_every_exit_code_of_an_update() {
    let client = bento_manual::programs()
        .into_iter()
        .find(|program| program.get_name() == "bento-client")
        .unwrap();
    let update = client.find_subcommand("update").unwrap();
    let help = update.get_after_help().unwrap().to_string();
    let codes = |words: &str| -> Vec<u8> {
        let words = words.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let text = document("reference.md");
    let rows = part(&text, "## Exit codes").lines();
    let column = rows.filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    assert_eq!(codes(&column.collect::<Vec<_>>().join(" ")), codes(&help));
}

#[test]
fn every_key_of_a_machines_settings_is_explained() {
    let text = document("updates.md");
    let sections = [
        "",
        "[[servers]]\n",
        "[timeouts]\n",
        "[rollback]\n",
        "[confirm]\n",
        "[health]\n",
        "[[health.checks]]\n",
        "[disk]\n",
        "[self_update]\n",
        "[reboot]\n",
    ];
    for section in sections {
        let error = Settings::parse(&format!("{section}no_such_key = 1\n")).unwrap_err();
        for key in expected(&format!("{error:#}")) {
            let is_set = [format!("\n{key} = "), format!("\n# {key} = ")];
            let is_section = [format!("\n[{key}]"), format!("\n[[{key}]]")];
            let is_there = is_set.iter().chain(&is_section).any(|it| text.contains(it))
                || section == "[health]\n" && text.contains(&format!("[[health.{key}]]"));
            assert!(is_there, "{section}{key} isn't in docs/updates.md");
        }
    }
}
