//! Every command in a message, a help text or an example is valid.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;

/// The folders with text for people.
const FOLDERS: [&str; 4] = [
    "../appliance/src",
    "../client/src",
    "../client/nix/src",
    "../nixos",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.file_name().unwrap() != "tests.rs"
            && !path.iter().any(|part| part == "tests")
        {
            found.push(path);
        }
    }
}

/// The commands between backticks, however their lines are broken.
fn commands(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1);
    let whole = parts.map(|part| {
        let words = part
            .split_whitespace()
            .filter(|word| !["\\", "///", "//!", "//", "#"].contains(word));
        words.collect::<Vec<_>>().join(" ")
    });
    let is_command = |text: &String| {
        let words: Vec<_> = text.split(' ').collect();
        let is_bento = matches!(words[0], "bento" | "bento-client" | "bento-image");
        // A computed command has no known name.
        let is_put_in = |word: &str| word.contains(['{', '…']);
        is_bento
            && words.len() > 1
            && !words[..3.min(words.len())]
                .iter()
                .any(|word| is_put_in(word))
    };
    whole.filter(is_command).collect()
}

/// The words of a command, with examples in place of computed parts.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in command.replace("\\\"", "\"").chars() {
        match c {
            '"' | '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

// Issue 10, line 37.
#[test]
fn every_named_command_is_valid() {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        files(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
            &mut paths,
        );
    }
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for command in commands(&text) {
            let words = words(&command);
            let programs = bento_manual::programs();
            let program = programs
                .into_iter()
                .find(|program| program.get_name() == words[0]);
            let Err(error) = program.unwrap().try_get_matches_from(&words) else {
                count += 1;
                continue;
            };
            // A command may be named without its arguments, and computed parts may be anything.
            match error.kind() {
                ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
                    wrong.push(format!("{}: {command}", path.display()));
                }
                _ => count += 1,
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(count > 50, "only {count} commands were found");
}
