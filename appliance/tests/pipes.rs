//! Output that nobody reads. (Issue 10, line 36.)

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there, with its line"
)]

use std::iter;
use std::path::Path;
use std::process::Command;

use bento_appliance::cli::CommandLine;
use bento_tests::process::{self, Output};
use clap::CommandFactory;

/// The exit code of a panic, which ends the process, as a shell would show it.
const PANICKED: Option<i32> = Some(101);

/// Lets `bento` write to pipes that nobody reads.
#[track_caller]
fn unread(fleet: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bento"));
    command
        .args(arguments)
        .current_dir(fleet)
        .env("HOME", fleet);
    let ended = process::run_unread(command.env_remove("BENTO_DIR")).unwrap();
    let code = ended.code();
    assert!(
        code.is_some() && code != PANICKED,
        "bento {arguments:?}: {ended}"
    );
}

#[test]
fn no_command_panics_where_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet");
    let mut init = Command::new(env!("CARGO_BIN_EXE_bento"));
    Output::of(init.arg("init").arg(&fleet)).with(0);
    for command in CommandLine::command().get_subcommands() {
        let name = command.get_name();
        // What runs here, and what it keeps, is none of a test's: `serve` would even start.
        let elsewhere = command.get_arguments().filter_map(|argument| {
            let option = argument.get_long()?;
            ["state", "runtime"]
                .contains(&option)
                .then(|| format!("--{option}=/dev/null"))
        });
        let elsewhere: Vec<_> = elsewhere.collect();
        let arguments = iter::once(name).chain(elsewhere.iter().map(String::as_str));
        unread(&fleet, &arguments.collect::<Vec<_>>());
        unread(&fleet, &[name, "--help"]);
        unread(&fleet, &[name, "--no-such-option"]);
        for below in command.get_subcommands() {
            unread(&fleet, &[name, below.get_name()]);
            unread(&fleet, &[name, below.get_name(), "--help"]);
        }
    }
}
