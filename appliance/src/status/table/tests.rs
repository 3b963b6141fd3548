use super::*;
use crate::report::fixture::{generation, second};
use crate::status::{PublishedVersion, Reported};

fn machine(name: &str, state: HostStatus) -> MachineStatus {
    MachineStatus {
        name: name.parse().unwrap(),
        state,
        published: Some(PublishedVersion {
            generation: generation('b'),
            at: second(0),
        }),
        reported: None,
        expected_system: None,
        seen: Some(second(0)),
        silent: Some(false),
        paused: false,
        held: None,
        runs: 1,
        error: None,
        problems: Vec::new(),
        notes: Vec::new(),
        version: Some("aaaaaaaa".into()),
    }
}

/// All of a status.
fn render(status: &Status, terminal: Option<Terminal>) -> String {
    super::render(status, status.hosts.len(), terminal)
}

fn status(hosts: Vec<MachineStatus>) -> Status {
    Status {
        format: bento_protocol::Format,
        at: second(90),
        problems: Some(Vec::new()),
        hosts,
        removed: Vec::new(),
    }
}

fn plain(columns: usize) -> Option<Terminal> {
    Some(Terminal {
        columns,
        colours: false,
        unicode: true,
    })
}

// Issue 10, line 13.
#[test]
fn removed_machines_are_below_the_table() {
    let removed = |name: &str, at| RemovedMachine {
        name: name.parse().unwrap(),
        at,
    };
    let status = Status {
        at: second(7300),
        removed: vec![
            removed("domovoi", second(90)),
            removed("leshy", second(7290)),
        ],
        ..status(vec![machine("a", HostStatus::UpToDate)])
    };
    let expected = "Removed: domovoi 2 h ago, leshy just now. A machine that comes back within a week with the same key keeps its reports.";
    for terminal in [None, plain(80)] {
        let text = render(&status, terminal);
        assert_eq!(
            text.lines().filter(|line| *line == expected).count(),
            1,
            "{text}"
        );
    }
    let json = serde_json::to_value(&status).unwrap();
    let first = serde_json::json!({"name": "domovoi", "at": "2026-01-01T00:01:30Z"});
    assert_eq!(json["removed"][0], first);
}

#[test]
fn a_plain_table_is_aligned() {
    let failing = MachineStatus {
        error: Some("error: no such file".into()),
        ..machine("a", HostStatus::Failing)
    };
    let new = MachineStatus {
        published: None,
        version: None,
        seen: None,
        ..machine("kikimora", HostStatus::New)
    };
    assert_eq!(
        render(&status(vec![failing, new]), None),
        "\
MACHINE   STATE    PUBLISHED  SINCE  RUNS      CONTACT    ERROR
a         failing  bbbbbbbb   1 min  aaaaaaaa  1 min ago  error: no such file
kikimora  new      -          -      -         -
"
    );
}

#[test]
fn the_cells_beside_the_state() {
    let all = MachineStatus {
        paused: true,
        held: Some(second(3600)),
        silent: Some(true),
        ..machine("a", HostStatus::UpToDate)
    };
    let text = render(&status(vec![all]), None);
    assert!(
        text.contains("up-to-date, paused, held until 2026-01-01 01:00Z, silent  "),
        "{text}"
    );
}

#[test]
fn no_line_is_wider_than_the_terminal_and_cut_errors_are_below() {
    let error = format!("日本{}", "x".repeat(100));
    let failing = MachineStatus {
        error: Some(error.clone()),
        ..machine("a", HostStatus::Failing)
    };
    // MACHINE, STATE, RUNS and CONTACT take 43 cells, and an error at least 12 more.
    for columns in [52, 53, 70, 80, 100] {
        let text = render(&status(vec![failing.clone()]), plain(columns));
        let (table, below) = text.split_once("\n\n").unwrap();
        assert!(
            table.lines().all(|line| line.width() <= columns),
            "{columns}: {text}"
        );
        assert_eq!(columns > 52, table.contains("日本xx"), "{columns}: {text}");
        assert_eq!(below, format!("a: {error}\n\n1 machine: 1 failing\n"));
    }
    assert!(render(&status(vec![failing]), None).contains(&error));
}

// Issue 10, line 42.
#[test]
fn on_eighty_columns_a_failure_shows_its_cause() {
    let errors = [
        "the build of generation b71fa047 failed: error: undefined variable 'pkgz' at /nix/store/x/a.nix:3:5",
        "the new system isn't healthy: greeter.service has failed: exit code 7",
    ];
    let hosts = ["kikimora", "domovoi-in-the-hall"].into_iter().zip(errors);
    let hosts = hosts.map(|(name, error)| MachineStatus {
        error: Some(error.to_owned()),
        ..machine(name, HostStatus::Failing)
    });
    let text = render(&status(hosts.collect()), plain(80));
    let (table, below) = text.split_once("\n\n").unwrap();
    let rows: Vec<_> = table.lines().skip(1).collect();
    assert!(rows[0].contains("  undefined variable 'pkgz'"), "{text}");
    assert!(rows[1].ends_with("  exit code 7"), "{text}");
    assert!(rows.iter().all(|row| row.width() <= 80), "{text}");
    for error in errors {
        assert!(below.contains(error), "{text}");
    }
}

// Issue 10, line 21.
#[test]
fn the_specialisation_that_runs_is_named() {
    let mut host = machine("a", HostStatus::UpToDate);
    host.reported = Some(Reported {
        generation: Some(generation('b')),
        outcome: "switched".into(),
        auto: false,
        at: second(0),
        built: None,
        running: None,
        specialisation: Some("console\u{1b}".into()),
    });
    let text = render(&status(vec![host]), None);
    assert!(text.contains(r"  aaaaaaaa (console\u{1b})  "), "{text}");
}

#[test]
fn problems_can_be_read_in_full() {
    let problems = vec![
        "hosts/a/utils: leads out".to_owned(),
        "hosts/a/x: is a FIFO".to_owned(),
    ];
    let unpublished = MachineStatus {
        error: Some(problems.join("; ")),
        problems,
        ..machine("a", HostStatus::Unpublished)
    };
    let text = render(
        &Status {
            problems: Some(vec!["fleet.toml:3: bad".into()]),
            ..status(vec![unpublished])
        },
        plain(80),
    );
    assert!(text.starts_with("✗ fleet.toml:3: bad\n\nMACHINE"), "{text}");
    assert!(
        text.contains("\n\na: hosts/a/utils: leads out\na: hosts/a/x: is a FIFO\n\n1 machine"),
        "{text}"
    );
}

#[test]
fn without_an_appliance_the_problems_are_unknown() {
    let unknown = Status {
        problems: None,
        ..status(vec![machine("a", HostStatus::UpToDate)])
    };
    let text = render(&unknown, None);
    assert!(text.starts_with("No appliance runs here"), "{text}");
    assert!(text.contains(".\n\nMACHINE"), "{text}");
}

#[test]
fn control_characters_are_escaped() {
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\rup-to-date\u{202e}";
    let hostile = MachineStatus {
        error: Some(evil.into()),
        problems: vec![evil.into()],
        version: Some(evil.into()),
        ..machine("a", HostStatus::Failing)
    };
    let fleet = Status {
        problems: Some(vec![evil.into()]),
        ..status(vec![hostile.clone()])
    };
    let cut = MachineStatus {
        problems: Vec::new(),
        ..hostile
    };
    for status in [fleet, status(vec![cut])] {
        for terminal in [None, plain(70), plain(200)] {
            let text = render(&status, terminal);
            assert!(
                text.chars()
                    .all(|character| character == '\n' || !character.is_control()),
                "{text:?}"
            );
            assert!(!text.contains('\u{202e}'));
            assert!(text.contains(r"\u{1b}]0;owned"), "{text:?}");
        }
    }
}

// Issue 10, line 40.
#[test]
fn a_machine_whose_folder_is_faulty_isnt_shown_as_good_and_is_counted() {
    let problem = "hosts/a/dang: is a symlink".to_owned();
    let faulty = MachineStatus {
        error: Some(problem.clone()),
        problems: vec![problem],
        ..machine("a", HostStatus::UpToDate)
    };
    let status = status(vec![faulty, machine("b", HostStatus::UpToDate)]);
    assert!(status.hosts[0].needs_attention() && status.hosts[0].is_faulty());
    let text = render(&status, plain(120));
    assert!(text.contains("✗ up-to-date, faulty"), "{text}");
    assert!(
        text.contains("2 machines: 2 up-to-date; 1 faulty"),
        "{text}"
    );
}

#[test]
fn colours_and_symbols_only_where_they_are_wanted() {
    let status = status(vec![machine("a", HostStatus::UpToDate)]);
    assert!(!render(&status, None).contains('✓'));
    assert!(render(&status, plain(80)).contains("✓ up-to-date"));
    assert!(!render(&status, plain(80)).contains('\u{1b}'));
    let coloured = render(
        &status,
        Some(Terminal {
            columns: 80,
            colours: true,
            unicode: true,
        }),
    );
    assert!(
        coloured.contains("\u{1b}[32m✓ up-to-date\u{1b}[0m  bbbbbbbb"),
        "{coloured:?}"
    );
}

#[test]
fn where_the_locale_has_no_symbols_letters_stand_in_their_places() {
    let failing = MachineStatus {
        error: Some("x".repeat(100)),
        ..machine("a", HostStatus::Failing)
    };
    let faulty = Status {
        problems: Some(vec!["fleet.toml:3: bad".into()]),
        ..status(vec![failing, machine("b", HostStatus::UpToDate)])
    };
    let ascii = plain(80).map(|terminal| Terminal {
        unicode: false,
        ..terminal
    });
    let text = render(&faulty, ascii);
    assert!(text.is_ascii(), "{text}");
    for part in ["x fleet.toml:3", "x failing  ", "+ up-to-date", "xxx~\n"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn an_error_that_fits_the_table_is_not_repeated_below() {
    let problem = "hosts/a/x: is a FIFO".to_owned();
    let faulty = MachineStatus {
        error: Some(problem.clone()),
        problems: vec![problem.clone()],
        ..machine("a", HostStatus::Failing)
    };
    for terminal in [None, plain(120), plain(70)] {
        let text = render(&status(vec![faulty.clone()]), terminal);
        assert_eq!(text.matches(&problem).count(), 1, "{text}");
    }
}

#[test]
fn ages_are_short() {
    let age = |seconds| age(second(0), second(seconds)).unwrap_or_default();
    let ages = [-5, 0, 59, 60, 3599, 3600, 172_799, 172_800].map(age);
    assert_eq!(ages.join(", "), ", , , 1 min, 59 min, 1 h, 47 h, 2 d");
    let text = render(
        &Status {
            at: second(59),
            ..status(vec![machine("a", HostStatus::New)])
        },
        None,
    );
    assert!(text.contains("just now  aaaaaaaa  just now"), "{text}");
}

#[test]
fn the_machines_and_their_states_are_aligned_at_any_width() {
    let long = MachineStatus {
        paused: true,
        ..machine(
            "a-machine-with-a-name-of-length",
            HostStatus::RebuildPending,
        )
    };
    let odd = MachineStatus {
        error: Some("❤\u{fe0f}日本語のエラー".repeat(20)),
        ..machine("b", HostStatus::Failing)
    };
    let hosts = vec![long, odd];
    for columns in 4..160 {
        let table = Table::new(&status(hosts.clone()), 2, second(90), plain(columns));
        let lines: Vec<_> = table.headings.iter().chain(&table.rows).collect();
        for line in &lines {
            assert!(line.width() <= columns, "{columns}: {line:?}");
        }
        let place = |line: &str, what: &str| Some(line[..line.find(what)?].width());
        let state = place(lines[0], "STATE");
        if columns >= 20 {
            assert_eq!(place(lines[1], "… r"), state, "{columns}: {lines:#?}");
            assert_eq!(place(lines[2], "✗ f"), state, "{columns}: {lines:#?}");
        }
    }
    let narrow = Table::new(&status(hosts), 2, second(90), plain(20));
    assert_eq!(
        [&narrow.headings.unwrap(), &narrow.rows[0], &narrow.rows[1]],
        [
            "MACHINE   STATE     ",
            "a-machi…  … rebuild…",
            "b         ✗ failing "
        ]
    );
}

#[test]
fn the_summary_counts_each_machine_by_state_and_then_by_other_properties() {
    let silent = MachineStatus {
        silent: Some(true),
        ..machine("a", HostStatus::UpToDate)
    };
    let fine = machine("b", HostStatus::UpToDate);
    let failing = MachineStatus {
        paused: true,
        ..machine("c", HostStatus::Failing)
    };
    let hosts = [silent, fine, failing];
    let all = "3 machines: 1 failing, 2 up-to-date; 1 silent, 1 paused";
    assert_eq!(summary(&hosts, 3), all);
    assert_eq!(summary(&hosts[1..2], 3), "1 of 3 machines: 1 up-to-date");
    assert_eq!(summary(&[], 3), "None of 3 machines needs attention.");
    assert!(summary(&[], 0).starts_with("No machine is known yet"));
}

#[test]
fn long_lines_are_broken_between_words() {
    assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
    assert_eq!(wrap("abcdef 日本語 x", 5), ["abcde", "f", "日本", "語 x"]);
    assert_eq!(wrap("", 5), [""; 0]);
}
