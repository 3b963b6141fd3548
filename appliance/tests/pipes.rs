//! Output that nobody reads. (Issue 10, line 36.)

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there, with its line"
)]

use std::io;
use std::iter;
use std::path::Path;
use std::process::{Command, Stdio};

use bento_appliance::cli::CommandLine;
use clap::CommandFactory;

/// The exit code of a panic, which ends the process, as a shell would show it.
const PANICKED: Option<i32> = Some(101);

/// Lets `bento` write to pipes that nobody reads.
#[track_caller]
fn unread(fleet: &Path, arguments: &[&str]) {
    let closed = || {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        writer
    };
    let ended = Command::new(env!("CARGO_BIN_EXE_bento"))
        .args(arguments)
        .current_dir(fleet)
        .env("HOME", fleet)
        .env_remove("BENTO_DIR")
        .stdin(Stdio::null())
        .stdout(closed())
        .stderr(closed())
        .status()
        .unwrap();
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
    let init = Command::new(env!("CARGO_BIN_EXE_bento"))
        .arg("init")
        .arg(&fleet)
        .output()
        .unwrap();
    assert!(init.status.success(), "{init:?}");
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
