//! Man pages: one for each program, and one for each of its commands.

mod examples;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::Command;

use crate::reference::SETTINGS;
pub use examples::EXAMPLES;

/// Files that a program reads or writes, and their contents.
const FILES: [(&str, &str, &str); 8] = [
    (
        "bento",
        "fleet.toml",
        "the machines of the fleet, at the top of its folder",
    ),
    (
        "bento",
        ".bento/",
        "records of approvals and builds, beside fleet.toml",
    ),
    (
        "bento",
        "/state",
        "in the container: the host key, publications, reports",
    ),
    ("bento", "/config", "in the container: the fleet folder"),
    (
        "bento-client",
        "/etc/bento/client.toml",
        "the settings, which the NixOS module writes",
    ),
    (
        "bento-client",
        "/var/lib/bento/id_ed25519",
        "the machine's key, unless the settings name another",
    ),
    (
        "bento-client",
        "/var/lib/bento/secrets/",
        "the machine's secrets, from bento-secrets",
    ),
    (
        "bento-client",
        "/var/lib/bento/",
        "records between runs, and reports that wait for delivery",
    ),
];

/// Writes the pages of a program into `share/man/man1` of a prefix.
///
/// # Errors
/// When they can't be written.
pub fn write(program: Command, prefix: &Path) -> io::Result<()> {
    let folder = prefix.join("share/man/man1");
    fs::create_dir_all(&folder)?;
    let name = program.get_name().to_owned();
    // The pages replace the command `help`.
    let program = program.disable_help_subcommand(true);
    clap_mangen::generate_to(program.clone(), &folder)?;
    append(&program, &name, &name, &folder)
}

/// Appends examples, states, exit codes, files and variables to the pages of a command and its subcommands.
fn append(command: &Command, program: &str, page: &str, folder: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(folder.join(format!("{page}.1")))?;
    file.write_all(sections(program, page).as_bytes())?;
    let below = command.get_subcommands();
    for command in below.filter(|command| !command.is_hide_set()) {
        append(
            command,
            program,
            &format!("{page}-{}", command.get_name()),
            folder,
        )?;
    }
    Ok(())
}

/// The sections at the end of a page, in roff.
fn sections(program: &str, page: &str) -> String {
    let mut text = String::new();
    let examples = EXAMPLES.iter().filter(|(of, ..)| *of == page);
    section(
        &mut text,
        "EXAMPLES",
        examples.map(|(_, line, what)| (*line, *what)),
    );
    if page == "bento-status" {
        section(&mut text, "STATES", rows("## States of a machine"));
    }
    let codes = match program {
        "bento-client" => rows("## Exit codes"),
        _ => vec![
            ("0", "success, and nothing is wrong"),
            ("1", "a failure, or something is wrong"),
            ("2", "wrong usage"),
            ("130", "interrupted"),
        ],
    };
    section(&mut text, "EXIT STATUS", codes);
    let files = FILES.iter().filter(|(of, ..)| *of == program);
    section(
        &mut text,
        "FILES",
        files.map(|(_, path, what)| (*path, *what)),
    );
    section(&mut text, "ENVIRONMENT", variables(program));
    text
}

fn section<'a>(
    text: &mut String,
    title: &str,
    items: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let mut items = items.into_iter().peekable();
    if items.peek().is_some() {
        _ = match title.contains(' ') {
            true => writeln!(text, ".SH \"{title}\""),
            false => writeln!(text, ".SH {title}"),
        };
    }
    for (term, what) in items {
        _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", escaped(term), escaped(what));
    }
}

/// The text escaped for roff: hyphens that can be copied, and no line that begins a request.
fn escaped(text: &str) -> String {
    let text = text
        .replace('`', "")
        .replace('\\', "\\\\")
        .replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// The first and the last column of the table below a heading of the reference.
fn rows(heading: &str) -> Vec<(&'static str, &'static str)> {
    table(heading)
        .into_iter()
        .filter_map(|cells| Some((*cells.first()?, *cells.last()?)))
        .collect()
}

/// The variables that a program reads.
fn variables(program: &str) -> Vec<(&'static str, &'static str)> {
    let of_program = |cells: &Vec<&'static str>| {
        let readers = cells.get(1).map(|readers| readers.trim_matches('`'));
        readers.is_some_and(|readers| readers.split(' ').next() == Some(program))
    };
    let table = table("## Environment").into_iter().filter(of_program);
    table
        .filter_map(|cells| Some((cells.first()?.trim_matches('`'), *cells.last()?)))
        .collect()
}

/// The cells of the table below a heading of the reference, without its head.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let Some((_, below)) = SETTINGS.split_once(heading) else {
        return Vec::new();
    };
    let below = below.split("\n## ").next().unwrap_or_default();
    let lines = below.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |line: &'static str| {
        let line = line.trim_matches(['|', ' ']);
        line.split(" | ").map(str::trim).collect()
    };
    lines.map(cells).collect()
}
