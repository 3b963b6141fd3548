//! Output that nobody reads. (Issue 10, line 36.)

use std::process::Command;

use bento_client::commands::CommandLine;
use bento_tests::process;
use clap::CommandFactory;

use crate::env::{ClientEnv, flake};

/// What each command needs besides its place, and what it ends with on a machine on version 2.
const COMMANDS: [(&str, &[&str], i32); 10] = [
    ("check", &[], 0),
    ("status", &[], 0),
    ("has-key", &[], 0),
    ("hold", &[], 0),
    ("report", &[], 0),
    ("reboot-if-needed", &[], 0),
    ("settle-secrets", &[], 0),
    ("rollback", &[], 0),
    ("update", &["--retry"], 0),
    (
        "bootstrap",
        &["--name", "kikimora", "--server", "127.0.0.1"],
        // Its server has another port.
        2,
    ),
];

/// Lets a command write to pipes that nobody reads, and gives its exit code.
#[track_caller]
fn unread(mut command: Command) -> i32 {
    let ended = process::run_unread(&mut command).unwrap();
    ended
        .code()
        .unwrap_or_else(|| panic!("{command:?} was ended by a signal: {ended}"))
}

#[test]
fn no_command_minds_that_nobody_reads_what_it_says() {
    let mut env = ClientEnv::new();
    for version in ["1", "2"] {
        env.publish(flake(version), &[]);
        env.update().with(0);
    }
    let mut known: Vec<_> = COMMANDS.iter().map(|(name, ..)| *name).collect();
    let all = CommandLine::command();
    let mut all: Vec<_> = all.get_subcommands().map(|it| it.get_name()).collect();
    known.sort_unstable();
    all.sort_unstable();
    assert_eq!(known, all);
    for (name, arguments, code) in COMMANDS {
        let mut command = env.client(name);
        command.args(arguments);
        assert_eq!(unread(command), code, "{name}");
        let mut help = env.client(name);
        help.arg("--help");
        assert_eq!(unread(help), 0, "{name} --help");
        // The message of an error is lost, its exit code isn't.
        let mut wrong = env.client(name);
        wrong.arg("--no-such-option");
        assert_eq!(unread(wrong), 2, "{name}");
    }
    let mut json = env.client("status");
    json.arg("--json");
    assert_eq!(unread(json), 0);
    // What they were asked to do is done.
    env.is_wholly_on("2");
    assert_eq!(env.switches().len(), 8);
    // A warning doesn't end it either.
    env.ask("hold", &["--for", "1h"]).with(0);
    env.publish(flake("3"), &[]);
    env.update().with(0).complaining("updates are held");
    assert_eq!(unread(env.client("update")), 0);
    env.write_settings("name = 3\n");
    assert_eq!(unread(env.client("update")), 2);
}
