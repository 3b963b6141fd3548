//! Status as a table for a person.

mod cause;
mod layout;

use std::fmt::Write;

use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use self::layout::{ERROR, HEADINGS, Layout, SHORTEST_ERROR, StatusRow};
use super::{HostStatus, MachineStatus, RemovedMachine, Status};
use crate::text::sanitise::one_line;
use crate::text::terminal::{Colour, Terminal, legible, paint};

/// The table in its parts, each a line or several.
#[derive(Debug)]
pub struct Table {
    /// The problems of the fleet as a whole, in full and without colour.
    pub above: Vec<String>,
    /// The headings; none without a machine to show.
    pub headings: Option<String>,
    /// A line for each machine, not wider than the terminal.
    pub rows: Vec<String>,
    /// The errors that didn't fit, in full.
    pub below: Vec<String>,
    /// The number of machines in each state, or the reason for an empty table.
    pub summary: String,
}

/// Renders a status: the problems of the fleet first, then the table, and below it the errors that didn't fit, in full.
/// Without a terminal it is plain and nothing is cut.
///
/// `of` is the number of machines before a selection.
pub fn render(status: &Status, of: usize, terminal: Option<Terminal>) -> String {
    let table = Table::new(status, of, status.at, terminal);
    let above = table.above.iter();
    let above = above
        .map(|line| paint(line, Colour::Red, terminal))
        .collect();
    let rows = table.headings.into_iter().chain(table.rows).collect();
    let is_needed = terminal.is_some() || status.hosts.is_empty();
    let summary = is_needed.then_some(table.summary).into_iter().collect();
    let mut text = String::new();
    let blocks: [Vec<String>; 4] = [above, rows, table.below, summary];
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        if !text.is_empty() {
            text.push('\n');
        }
        for line in block {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    legible(text, terminal)
}

impl Table {
    /// The table at a time, for a terminal or plain.
    pub fn new(status: &Status, of: usize, now: Timestamp, terminal: Option<Terminal>) -> Self {
        let cells = |host| cells(host, now, terminal);
        let mut rows: Vec<StatusRow> = status.hosts.iter().map(cells).collect();
        let layout = Layout::of(&rows, terminal.map(|terminal| terminal.columns));
        // A problem begins with its place, which is useful; the error of a failed run with what the state says already.
        let failures = status.hosts.iter().zip(&mut rows);
        for (_, row) in failures.filter(|(host, _)| host.problems.is_empty()) {
            row[ERROR] = cause::within(&row[ERROR], layout.room.unwrap_or(usize::MAX));
        }
        let headings = || layout.row(&HEADINGS.map(str::to_owned), None, terminal);
        let lines = status.hosts.iter().zip(&rows);
        Table {
            above: above(status, terminal),
            headings: (!rows.is_empty()).then(headings),
            rows: lines
                .map(|(host, cells)| layout.row(cells, Some(colour(host)), terminal))
                .collect(),
            below: status
                .hosts
                .iter()
                .flat_map(|host| below(host, layout.room))
                .chain(removed(&status.removed, now))
                .collect(),
            summary: summary(&status.hosts, of),
        }
    }
}

fn above(status: &Status, terminal: Option<Terminal>) -> Vec<String> {
    let mark = if terminal.is_some() { "✗ " } else { "" };
    match &status.problems {
        None => vec![
            "No appliance runs here: whether anything is wrong with the fleet isn't known."
                .to_owned(),
        ],
        Some(problems) => problems
            .iter()
            .map(|problem| format!("{mark}{}", one_line(problem, usize::MAX)))
            .collect(),
    }
}

/// The summary, such as `12 machines: 10 up-to-date, 2 failing; 1 silent`: each machine is in one state, and may have other
/// properties.
fn summary(hosts: &[MachineStatus], of: usize) -> String {
    let machines = if of == 1 { "machine" } else { "machines" };
    if of == 0 {
        return "No machine is known yet: right after a start ask again; `bento host add` enrols one."
            .to_owned();
    }
    if hosts.is_empty() {
        return format!("None of {of} {machines} needs attention.");
    }
    let count = |is_one: &dyn Fn(&MachineStatus) -> bool, what: &str| {
        let count = hosts.iter().filter(|host| is_one(host)).count();
        (count > 0).then(|| format!("{count} {what}"))
    };
    let states: Vec<_> = HostStatus::ALL
        .into_iter()
        .filter_map(|state| count(&|host| host.state == state, state.as_str()))
        .collect();
    let besides: Vec<_> = [
        count(&MachineStatus::is_faulty, "faulty"),
        count(&|host| host.silent == Some(true), "silent"),
        count(&|host| host.paused, "paused"),
        count(&|host| host.held.is_some(), "held"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let shown = match hosts.len() {
        all if all == of => format!("{of} {machines}"),
        some => format!("{some} of {of} {machines}"),
    };
    let besides = match besides.is_empty() {
        true => String::new(),
        false => format!("; {}", besides.join(", ")),
    };
    format!("{shown}: {}{besides}", states.join(", "))
}

fn cells(host: &MachineStatus, now: Timestamp, terminal: Option<Terminal>) -> StatusRow {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut state = if terminal.is_some() {
        format!("{} {}", symbol(host), host.state)
    } else {
        host.state.to_string()
    };
    if host.is_faulty() {
        state.push_str(", faulty");
    }
    if host.paused {
        state.push_str(", paused");
    }
    if let Some(until) = host.held {
        let _infallible = write!(state, ", held until {}", until.strftime("%Y-%m-%d %H:%MZ"));
    }
    if host.silent == Some(true) {
        state.push_str(", silent");
    }
    let published = host.published.as_ref();
    let just_now = || "just now".to_owned();
    [
        host.name.to_string(),
        state,
        or_none(published.map(|published| published.generation.short())),
        or_none(published.map(|published| age(published.at, now).unwrap_or_else(just_now))),
        or_none(version(host)),
        or_none(
            host.seen
                .map(|seen| age(seen, now).map_or_else(just_now, |age| format!("{age} ago"))),
        ),
        host.error
            .as_deref()
            .map(|error| one_line(error, usize::MAX))
            .unwrap_or_default(),
    ]
}

/// The running version, and its specialisation.
fn version(host: &MachineStatus) -> Option<String> {
    let version = host.version.as_deref().map(|version| one_line(version, 16));
    let reported = host.reported.as_ref();
    match reported.and_then(|reported| reported.specialisation.as_deref()) {
        Some(name) => {
            let version = version.unwrap_or_else(|| "-".to_owned());
            Some(format!("{version} ({})", one_line(name, 20)))
        }
        None => version,
    }
}

/// The lines of a machine below the table: its problems, or an error that didn't fit, and its notes.
fn below(host: &MachineStatus, room: Option<usize>) -> Vec<String> {
    let name = &host.name;
    let full = |text: &String| format!("{name}: {}", one_line(text, usize::MAX));
    let didnt_fit =
        |error: &&String| room.is_some_and(|room| room < SHORTEST_ERROR || error.width() > room);
    // A single problem may be in the table already.
    let (problems, error) = match (&host.problems[..], &host.error) {
        ([], error) => (&[][..], error.as_ref().filter(didnt_fit)),
        ([only], Some(error)) if only == error && !didnt_fit(&error) => (&[][..], None),
        (problems, _) => (problems, None),
    };
    let lines = problems.iter().chain(error).chain(&host.notes);
    lines.map(full).collect()
}

/// The machines that were removed within the last week.
fn removed(machines: &[RemovedMachine], now: Timestamp) -> Option<String> {
    let one = |machine: &RemovedMachine| match age(machine.at, now) {
        Some(age) => format!("{} {age} ago", machine.name),
        None => format!("{} just now", machine.name),
    };
    (!machines.is_empty()).then(|| {
        format!(
            "Removed: {}. A machine that comes back within a week with the same key keeps its reports.",
            machines.iter().map(one).collect::<Vec<_>>().join(", ")
        )
    })
}

/// The beginning of a text that fits into so many cells of a terminal.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    if room == 0 {
        return String::new();
    }
    let mut left = room - 1;
    let fits = |character: &char| {
        let width = character.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut beginning: String = text.chars().take_while(fits).collect();
    // Some sequences, such as those of emoji, are wider than their characters.
    while beginning.width() >= room {
        beginning.pop();
    }
    beginning + "…"
}

/// The age of a time, in the largest useful unit; none below a minute, so that `--watch` needn't draw it again each second.
fn age(time: Timestamp, now: Timestamp) -> Option<String> {
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..60 => None,
        60..3600 => Some(format!("{} min", seconds / 60)),
        3600..172_800 => Some(format!("{} h", seconds / 3600)),
        _ => Some(format!("{} d", seconds / 86_400)),
    }
}

/// A text in lines of at most so many cells of a terminal, broken between words where possible.
pub(crate) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let room = room.max(2);
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.width() + 1 + word.width() <= room {
            line.push(' ');
            line.push_str(word);
            continue;
        }
        let mut piece = String::new();
        for character in word.chars() {
            if piece.width() + character.width().unwrap_or(0) > room {
                lines.push(std::mem::take(&mut piece));
            }
            piece.push(character);
        }
        lines.push(piece);
    }
    lines.retain(|line| !line.is_empty());
    lines
}

fn colour(host: &MachineStatus) -> Colour {
    match host.state {
        _ if host.is_faulty() => Colour::Red,
        HostStatus::UpToDate | HostStatus::AutoUpdated => Colour::Green,
        HostStatus::New | HostStatus::SyncPending | HostStatus::RebuildPending => Colour::Blue,
        HostStatus::Legacy
        | HostStatus::RebootPending
        | HostStatus::Mismatch
        | HostStatus::Drifted => Colour::Yellow,
        HostStatus::Unpublished | HostStatus::RolledBack | HostStatus::Failing => Colour::Red,
    }
}

/// The symbol of a machine, for readers who can't see the colours. All are one cell wide.
fn symbol(host: &MachineStatus) -> char {
    match colour(host) {
        Colour::Green => '✓',
        Colour::Blue => '…',
        Colour::Yellow => '!',
        Colour::Red => '✗',
    }
}

#[cfg(test)]
mod tests;
