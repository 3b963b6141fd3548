//! Status as a table for a person.

use std::fmt::Write;

use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{HostStatus, MachineStatus, Status};
use crate::report::one_line;
use crate::terminal::{Colour, Terminal, paint};

const HEADINGS: [&str; 6] = ["MACHINE", "STATE", "PUBLISHED", "RUNS", "CONTACT", "ERROR"];
/// The column of the errors, which comes last and takes what is left of the line.
const ERROR: usize = 5;
/// The column of the states, which is coloured.
const STATE: usize = 1;
/// Between columns.
const GAP: &str = "  ";
/// An error isn't shown in fewer characters than this, only below the table.
const SHORTEST_ERROR: usize = 12;

/// The table: what is wrong with the fleet above it, and below it in full what didn't fit. Without a terminal it is
/// plain and nothing is cut.
pub fn render(status: &Status, terminal: Option<Terminal>) -> String {
    let mut text = String::new();
    for problem in status.problems.iter().flatten() {
        let mark = if terminal.is_some() { "✗ " } else { "" };
        line(
            &mut text,
            &paint(
                &format!("{mark}{}", one_line(problem, usize::MAX)),
                Colour::Red,
                terminal,
            ),
        );
    }
    if status.problems.is_none() {
        line(
            &mut text,
            "No appliance runs here: whether anything is wrong with the fleet isn't known.",
        );
    }
    if !text.is_empty() {
        text.push('\n');
    }
    if status.hosts.is_empty() {
        line(
            &mut text,
            "No machine is enrolled yet: bento host add enrols one.",
        );
        return text;
    }
    let rows: Vec<[String; 6]> = status
        .hosts
        .iter()
        .map(|host| cells(host, status.at, terminal))
        .collect();
    let widths = widths(&rows);
    let room = terminal.map(|terminal| {
        terminal
            .columns
            .saturating_sub(widths[..ERROR].iter().map(|width| width + GAP.len()).sum())
    });

    line(
        &mut text,
        &row(&HEADINGS.map(str::to_owned), &widths, room, None, terminal),
    );
    for (host, cells) in status.hosts.iter().zip(&rows) {
        line(
            &mut text,
            &row(cells, &widths, room, Some(colour(host.state)), terminal),
        );
    }
    let below: Vec<String> = status
        .hosts
        .iter()
        .flat_map(|host| below(host, room))
        .collect();
    if !below.is_empty() {
        text.push('\n');
        below.iter().for_each(|detail| line(&mut text, detail));
    }
    text
}

fn cells(host: &MachineStatus, now: Timestamp, terminal: Option<Terminal>) -> [String; 6] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut state = if terminal.is_some() {
        format!("{} {}", symbol(host.state), host.state)
    } else {
        host.state.to_string()
    };
    if host.paused {
        state.push_str(", paused");
    }
    if let Some(until) = host.held {
        let _infallible = write!(state, ", held until {}", until.strftime("%Y-%m-%d %H:%MZ"));
    }
    if host.silent == Some(true) {
        state.push_str(", silent");
    }
    [
        host.name.to_string(),
        state,
        or_none(
            host.published
                .as_ref()
                .map(|published| published.generation.short()),
        ),
        or_none(host.version.as_deref().map(|version| one_line(version, 16))),
        or_none(host.seen.map(|seen| age(seen, now))),
        host.error
            .as_deref()
            .map(|error| one_line(error, usize::MAX))
            .unwrap_or_default(),
    ]
}

/// The width of each column but the last, in terminal cells.
fn widths(rows: &[[String; 6]]) -> [usize; 6] {
    let mut widths = HEADINGS.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    widths
}

fn row(
    cells: &[String; 6],
    widths: &[usize; 6],
    room: Option<usize>,
    colour: Option<Colour>,
    terminal: Option<Terminal>,
) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate().take(ERROR) {
        // Filled up before it is coloured: the codes take no room on the terminal.
        let filled = format!("{cell}{}{GAP}", " ".repeat(width - cell.width()));
        text += &match colour {
            Some(colour) if column == STATE => paint(&filled, colour, terminal),
            _ => filled,
        };
    }
    text += &match room {
        Some(room) if room < SHORTEST_ERROR => String::new(),
        Some(room) => cut(&cells[ERROR], room),
        None => cells[ERROR].clone(),
    };
    text
}

/// What is said of a machine below the table: each thing that stops its publication, or an error that didn't fit, and
/// what the administrator is reminded of.
fn below(host: &MachineStatus, room: Option<usize>) -> Vec<String> {
    let name = &host.name;
    let full = |text: &String| format!("{name}: {}", one_line(text, usize::MAX));
    let didnt_fit =
        |error: &&String| room.is_some_and(|room| room < SHORTEST_ERROR || error.width() > room);
    let error = host
        .error
        .iter()
        .filter(|error| host.problems.is_empty() && didnt_fit(error));
    let lines = host.problems.iter().chain(error).chain(&host.notes);
    lines.map(full).collect()
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The beginning of a text that fits into so many cells of a terminal.
fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let fits = |character: &char| {
        let width = character.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// How long ago something was, in the largest unit that says enough.
fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

fn colour(state: HostStatus) -> Colour {
    match state {
        HostStatus::UpToDate | HostStatus::AutoUpdated => Colour::Green,
        HostStatus::New | HostStatus::SyncPending | HostStatus::RebuildPending => Colour::Blue,
        HostStatus::Legacy
        | HostStatus::RebootPending
        | HostStatus::Mismatch
        | HostStatus::Drifted => Colour::Yellow,
        HostStatus::Unpublished | HostStatus::RolledBack | HostStatus::Failing => Colour::Red,
    }
}

/// For those who don't see the colours. All are one cell wide.
fn symbol(state: HostStatus) -> char {
    match colour(state) {
        Colour::Green => '✓',
        Colour::Blue => '…',
        Colour::Yellow => '!',
        Colour::Red => '✗',
    }
}

#[cfg(test)]
mod tests;
