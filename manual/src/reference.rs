//! `docs/reference.md`: every command with its options, and the settings, states and codes of settings.md.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

use crate::programs;

const HEAD: &str = include_str!("reference/head.md");
pub(crate) const SETTINGS: &str = include_str!("reference/settings.md");

/// The whole text.
pub fn text() -> String {
    let mut text = HEAD.to_owned();
    for program in programs() {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        describe(&program, 2, &mut text);
    }
    text.push('\n');
    text.push_str(SETTINGS);
    text
}

/// Appends a command with its arguments, and its subcommands.
fn describe(command: &Command, level: usize, text: &mut String) {
    let path = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let mut write = |line: &str| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    write("");
    write(&format!("{} {path}", "#".repeat(level)));
    write("");
    write(&sentence(&about));
    let commands: Vec<&Command> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .collect();
    if commands.is_empty() {
        write("");
        let usage = command.clone().render_usage().to_string();
        write(&format!("    {}", usage.trim_start_matches("Usage: ")));
        let arguments: Vec<&Arg> = command
            .get_arguments()
            .filter(|arg| is_shown(arg))
            .collect();
        if !arguments.is_empty() {
            write("");
        }
        for argument in arguments {
            write(&item(argument));
        }
    }
    for below in commands {
        describe(below, (level + 1).min(4), text);
    }
}

/// Whether an argument is listed; `--help` and `--version` are described once, at the top.
fn is_shown(argument: &Arg) -> bool {
    let is_builtin = matches!(
        argument.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    !argument.is_hide_set() && !is_builtin
}

/// An argument as an item of a list.
fn item(argument: &Arg) -> String {
    let mut names = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    let values: Vec<String> = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| format!("<{name}>"))
        .collect();
    if argument.get_action().takes_values() {
        match names.last_mut() {
            Some(name) => _ = write!(name, " {}", values.join(" ")),
            None => names.push(values.join(" ")),
        }
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    format!(
        "- {}: {}{}",
        names.join(", "),
        // Further paragraphs stay in the list.
        sentence(&help).replace("\n\n", "\n\n  "),
        details(argument)
    )
}

/// The values, default and variable of an argument.
fn details(argument: &Arg) -> String {
    let mut details = String::new();
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if argument.get_action().takes_values() && !values.is_empty() {
        _ = write!(details, " One of {}.", values.join(", "));
    }
    let defaults: Vec<String> = argument
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        _ = write!(details, " Default: {}.", defaults.join(", "));
    }
    if let Some(variable) = argument.get_env() {
        _ = write!(details, " Also by `{}`.", variable.to_string_lossy());
    }
    details
}

/// The first paragraph of a help text ends without a full stop; in running text it has one.
fn sentence(help: &str) -> String {
    let (first, rest) = match help.trim().split_once("\n\n") {
        Some((first, rest)) => (first, format!("\n\n{rest}")),
        None => (help.trim(), String::new()),
    };
    let stop = match first.chars().last() {
        None | Some('.' | ':' | '?') => "",
        Some(_) => ".",
    };
    format!("{first}{stop}{rest}")
}
