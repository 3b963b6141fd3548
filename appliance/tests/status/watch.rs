//! What is followed: on a terminal, and in a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use bento_protocol::Outcome;
use bento_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::command::{here, run};
use crate::place::Place;
use crate::terminal::Terminal;

fn place() -> Place {
    let place = Place::new(&["domovoi", "kikimora"]);
    place.publish("domovoi", "{ }");
    place.publish("kikimora", "{ }");
    place
}

/// The line of a machine.
fn line<'a>(lines: &'a [String], name: &str) -> &'a str {
    let line = lines.iter().find(|line| line.starts_with(name));
    line.map_or("", String::as_str)
}

#[test]
fn a_report_and_a_publication_are_seen_and_q_leaves_the_terminal_as_it_was() {
    let place = place();
    let mut terminal = Terminal::run(&here(&place, ["--watch"]), 100, 20);
    terminal.until_shows("2 machines: 2 new");
    place.report("kikimora", Outcome::Switched);
    let seen = terminal.until_shows("✓ up-to-date");
    assert!(line(&seen, "domovoi").contains("… new"), "{seen:#?}");
    place.publish("kikimora", "{ changed = true; }");
    terminal.until("it is pending", |seen| {
        line(seen, "kikimora").contains("rebuild-pending")
    });
    place.set_problems(
        r#"[{"place": "fleet.toml:7", "host": null, "what": "is wrong", "advice": "mend it"}]"#,
    );
    let seen = terminal.until_shows("✗ fleet.toml:7: is wrong: mend it");
    assert_eq!((seen.len(), &seen[1][..7]), (20, "MACHINE"), "{seen:#?}");
    place.set_fleet(&["domovoi", "kikimora", "leshy"]);
    terminal.until("a machine more", |seen| {
        line(seen, "leshy").contains("unpublished")
    });
    place.publish("leshy", "{ }");
    terminal.until("it is published", |seen| {
        line(seen, "leshy").contains("new")
    });
    terminal.press("xq");
    let left = terminal.end();
    assert_eq!((left.code, left.after.as_str()), (Some(0), ""));
}

#[test]
fn ctrl_c_a_signal_and_the_loss_of_the_terminal_end_it() {
    let place = place();
    let begin = || {
        let mut terminal = Terminal::run(&here(&place, ["--watch"]), 80, 20);
        terminal.until_shows("2 machines");
        terminal
    };
    let terminal = begin();
    terminal.press("\u{3}");
    assert_eq!(terminal.end().code, Some(0));
    let terminal = begin();
    let id = Pid::from_raw(terminal.id().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert_eq!(terminal.end().code, Some(0));
    assert_eq!(begin().take_away(), Some(0));
}

#[test]
fn the_error_that_ends_it_is_printed_on_the_restored_terminal() {
    let place = place();
    let mut terminal = Terminal::run(&here(&place, ["--watch"]), 80, 20);
    terminal.until_shows("2 machines");
    fs::write(place.state.fleet(), "{").unwrap();
    let left = terminal.end();
    assert_eq!(left.code, Some(1));
    assert!(
        left.after.starts_with("bento: the last good fleet, "),
        "{}",
        left.after
    );
}

#[test]
fn more_machines_than_lines_can_be_scrolled_under_their_headings() {
    let names: Vec<_> = (10..50).map(|number| format!("m{number}")).collect();
    let place = Place::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut terminal = Terminal::run(&here(&place, ["--watch"]), 60, 12);
    let top =
        |name: &'static str| move |seen: &[String]| seen.len() == 12 && seen[1].starts_with(name);
    terminal.until("the beginning", top("m10"));
    for (keys, name) in [
        ("j", "m11"),
        ("\u{1b}[B", "m12"),
        ("\u{1b}[6~", "m21"),
        ("G", "m40"),
        ("\u{1b}[5~", "m31"),
        ("\u{1b}[Ak", "m29"),
        ("g", "m10"),
        ("\u{1b}[F", "m40"),
    ] {
        terminal.press(keys);
        let seen = terminal.until(&format!("{name} after {keys:?}"), top(name));
        assert!(seen[0].starts_with("MACHINE"), "{seen:#?}");
    }
    terminal.resize(60, 50);
    let seen = terminal.until("all at once", |seen| seen.len() == 50);
    assert!(
        seen[1].starts_with("m10") && seen[40].starts_with("m49"),
        "{seen:#?}"
    );
    terminal.resize(20, 12);
    let seen = terminal.until("a narrow one", |seen| seen.len() == 12);
    assert!(
        seen.iter().all(|line| line.chars().count() <= 20),
        "{seen:#?}"
    );
    terminal.press("q");
    assert_eq!(terminal.end().code, Some(0));
}

#[test]
fn while_nothing_changes_nothing_is_drawn() {
    let place = place();
    let mut terminal = Terminal::run(&here(&place, ["--watch"]), 80, 20);
    terminal.until_shows("2 machines");
    let status = format!("/proc/{}/status", terminal.id());
    // It reads the state again each time that it was woken up.
    let woken = || -> u32 {
        let text = fs::read_to_string(&status).unwrap();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    };
    let (before, drawn) = (woken(), terminal.written());
    wait::expect("it reads again", || (woken() >= before + 3).then_some(()));
    assert_eq!(terminal.written(), drawn);
    terminal.press("q");
    assert_eq!(terminal.end().code, Some(0));
}

/// `bento status --json --watch` in a pipe.
struct Pipe {
    program: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Pipe {
    fn of(place: &Place, arguments: &[&str]) -> Self {
        let all = ["--json", "--watch"].iter().chain(arguments).copied();
        let mut command = here(place, all);
        let mut program = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(program.stdout.take().unwrap()).lines();
        Pipe { program, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn end(&mut self) -> Option<i32> {
        wait::expect("it ends", || self.program.try_wait().unwrap()).code()
    }
}

#[test]
fn in_a_pipe_there_is_a_document_a_line_until_nobody_reads() {
    let place = place();
    let mut pipe = Pipe::of(&place, &["kikimora"]);
    let first = pipe.next();
    assert_eq!(first["hosts"].as_array().unwrap().len(), 1);
    assert_eq!(first["hosts"][0]["state"], "new");
    // What isn't asked for is no reason to print anything.
    place.report("domovoi", Outcome::Switched);
    place.report("kikimora", Outcome::BuildFailed);
    let second = pipe.next();
    assert_eq!(second["hosts"][0]["state"], "failing");
    assert_eq!(
        second["hosts"][0]["error"],
        "error: undefined variable 'motto'"
    );
    drop(std::mem::replace(&mut pipe.lines, empty()));
    assert_eq!(pipe.end(), Some(0));
}

/// The lines of a program that prints nothing.
fn empty() -> Lines<BufReader<ChildStdout>> {
    let program = std::process::Command::new("true")
        .stdout(Stdio::piped())
        .spawn();
    let mut program = program.unwrap();
    let output = program.stdout.take().unwrap();
    program.wait().unwrap();
    BufReader::new(output).lines()
}

#[test]
fn one_that_is_asked_from_elsewhere_ends_with_its_input() {
    let place = place();
    let mut pipe = Pipe::of(&place, &["--end-with-input"]);
    pipe.next();
    drop(pipe.program.stdin.take());
    assert_eq!(pipe.end(), Some(0));
    // Input that never was a pipe, such as that of a service, says nothing.
    let mut pipe = Pipe::of(&place, &[]);
    pipe.next();
    drop(pipe.program.stdin.take());
    place.report("kikimora", Outcome::Switched);
    assert_eq!(pipe.next()["hosts"][1]["state"], "up-to-date");
    pipe.program.kill().unwrap();
    pipe.program.wait().unwrap();
}

#[test]
fn without_a_terminal_there_is_nothing_to_draw_on() {
    let place = place();
    let (output, errors, code) = run(here(&place, ["--watch"]));
    assert_eq!((output.as_str(), code), ("", 1));
    assert!(errors.contains("--watch --json"), "{errors}");
    let mut dumb = here(&place, ["--watch"]);
    dumb.env("TERM", "dumb");
    let left = Terminal::run(&dumb, 80, 20).end();
    assert_eq!(left.code, Some(1));
    assert!(left.after.contains("--watch --json"), "{}", left.after);
}
