//! The table of builds: one row for each machine.

use std::time::Duration;

use super::progress::{BuildStep, DryRunCounts};
use crate::status::table::cut;
use crate::text::sanitise::one_line;
use crate::text::terminal::{Colour, Terminal, paint};

/// The row of a machine.
#[derive(Debug)]
pub(super) struct BuildRow {
    /// Its name.
    pub(super) name: String,
    /// Its state.
    pub(super) state: RowState,
    /// The elapsed time; none while it waits.
    pub(super) took: Option<Duration>,
}

/// The state of a machine's build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowState {
    /// Running or waiting.
    Active(BuildStep),
    /// Built, with the path of the system.
    Built(String),
    /// Evaluated in a dry run.
    WouldBuild(DryRunCounts),
    /// Failed, with the cause.
    Failed(String),
    /// Interrupted.
    Interrupted,
}

/// The gap between columns.
const GAP: &str = "  ";
/// The longest phase.
const PHASE: usize = "interrupted".len();
/// The least width for a detail.
const SHORTEST_DETAIL: usize = 8;

impl RowState {
    fn phase(&self) -> &'static str {
        match self {
            RowState::Active(step) => step.phase(),
            RowState::Built(_) => "built",
            RowState::WouldBuild(_) => "evaluated",
            RowState::Failed(_) => "failed",
            RowState::Interrupted => "interrupted",
        }
    }

    fn detail(&self) -> String {
        match self {
            RowState::Active(step) => one_line(step.subject(), usize::MAX),
            RowState::Built(system) => system.clone(),
            RowState::WouldBuild(counts) => counts.to_string(),
            RowState::Failed(reason) => one_line(reason, usize::MAX),
            RowState::Interrupted => String::new(),
        }
    }

    fn symbol(&self) -> (char, Option<Colour>) {
        match self {
            RowState::Active(BuildStep::Waiting) => ('·', None),
            RowState::Active(_) => ('…', Some(Colour::Blue)),
            RowState::Built(_) | RowState::WouldBuild(_) => ('✓', Some(Colour::Green)),
            RowState::Failed(_) => ('✗', Some(Colour::Red)),
            RowState::Interrupted => ('!', Some(Colour::Yellow)),
        }
    }

    /// The order in which rows are kept if not all fit; the lowest first.
    fn display_order(&self) -> u8 {
        match self {
            RowState::Active(BuildStep::Waiting) => 2,
            RowState::Active(_) => 0,
            RowState::Failed(_) | RowState::Interrupted => 1,
            RowState::Built(_) | RowState::WouldBuild(_) => 3,
        }
    }
}

/// The rows of the table that fit into a number of lines. No line is wider than the terminal.
pub(super) fn render(rows: &[BuildRow], lines: usize, terminal: Terminal) -> Vec<String> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    if rows.len() <= lines {
        return rows.iter().map(|row| line(row, width, terminal)).collect();
    }
    let mut shown: Vec<usize> = (0..rows.len()).collect();
    shown.sort_by_key(|index| rows[*index].state.display_order());
    let hidden = shown.split_off(lines.saturating_sub(1));
    shown.sort_unstable();
    let shown = shown.into_iter().map(|index| &rows[index]);
    let mut text: Vec<_> = shown.map(|row| line(row, width, terminal)).collect();
    let hidden = hidden.into_iter().map(|index| &rows[index]);
    text.push(cut(&rest(hidden), terminal.columns.saturating_sub(1)));
    text.truncate(lines);
    text
}

/// The counts of the hidden rows.
fn rest<'a>(rows: impl Iterator<Item = &'a BuildRow>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let mut all = 0;
    for row in rows {
        all += 1;
        let phase = row.state.phase();
        match counts.iter_mut().find(|(counted, _)| *counted == phase) {
            Some((_, count)) => *count += 1,
            None => counts.push((phase, 1)),
        }
    }
    let counts = counts
        .iter()
        .map(|(phase, count)| format!("{count} {phase}"));
    format!(
        "… and {all} more: {}",
        counts.collect::<Vec<_>>().join(", ")
    )
}

fn line(row: &BuildRow, width: usize, terminal: Terminal) -> String {
    let (symbol, colour) = row.state.symbol();
    let took = row.took.map(elapsed).unwrap_or_default();
    let head = format!("{symbol} {:width$}{GAP}", row.name);
    let phase = format!("{:PHASE$}", row.state.phase());
    let time = format!("{GAP}{took:>7}{GAP}");
    // The last column stays empty, because writing to it makes some terminals wrap.
    let columns = terminal.columns.saturating_sub(1);
    let taken = width + 2 + GAP.len() + PHASE + 7 + 2 * GAP.len();
    if taken > columns {
        return cut(&format!("{head}{phase}{time}"), columns);
    }
    let phase = match colour {
        Some(colour) => paint(&phase, colour, Some(terminal)),
        None => phase,
    };
    let detail = match columns - taken {
        room if room < SHORTEST_DETAIL => String::new(),
        room => cut(&row.state.detail(), room),
    };
    format!("{head}{phase}{time}{detail}").trim_end().to_owned()
}

/// A time for people, at most seven characters below a hundred hours.
pub(super) fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn row(name: &str, state: RowState) -> BuildRow {
        BuildRow {
            name: name.to_owned(),
            state,
            took: Some(Duration::from_secs(75)),
        }
    }

    fn terminal(columns: usize) -> Terminal {
        Terminal {
            columns,
            colours: false,
            unicode: true,
        }
    }

    fn rows() -> Vec<BuildRow> {
        let building = BuildStep::Building("linux-6.6 — größer".to_owned());
        vec![
            row("a", RowState::Built("/nix/store/x-system".to_owned())),
            row("bee", RowState::Active(building)),
            row("c", RowState::Failed("error: a\n  b\u{1b}[2J".to_owned())),
            row("d", RowState::Active(BuildStep::Waiting)),
            row("e", RowState::Active(BuildStep::Waiting)),
        ]
    }

    #[test]
    fn each_machine_has_its_phase_its_time_and_a_detail() {
        assert_eq!(
            render(&rows()[..3], 3, terminal(80)),
            [
                "✓ a    built           1:15  /nix/store/x-system",
                "… bee  building        1:15  linux-6.6 — größer",
                "✗ c    failed          1:15  error: a b\\u{1b}[2J",
            ]
        );
    }

    #[test]
    fn rows_that_do_not_fit_are_counted_and_waiting_or_done_ones_go_first() {
        let lines = render(&rows(), 3, terminal(80));
        assert!(
            lines[0].contains("bee") && lines[1].contains("failed"),
            "{lines:?}"
        );
        assert_eq!(lines[2], "… and 3 more: 2 waiting, 1 built");
        assert_eq!(render(&rows(), 0, terminal(80)).len(), 0);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in 1..80 {
            for line in render(&rows(), 4, terminal(columns)) {
                assert!(line.width() < columns.max(2), "{columns}: {line:?}");
            }
        }
    }

    #[test]
    fn times_are_short() {
        let text = |seconds| elapsed(Duration::from_secs(seconds));
        assert_eq!([59, 60, 3661].map(text), ["59 s", "1:00", "1:01:01"]);
    }
}
