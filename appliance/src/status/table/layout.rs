//! The layout of the table: the shown columns and their widths.

use unicode_width::UnicodeWidthStr;

use super::cut;
use crate::text::terminal::{Colour, Terminal, paint};

pub(super) const COLUMNS: usize = 7;
pub(super) const HEADINGS: [&str; COLUMNS] = [
    "MACHINE",
    "STATE",
    "PUBLISHED",
    "SINCE",
    "RUNS",
    "CONTACT",
    "ERROR",
];
/// The column of the names.
const MACHINE: usize = 0;
/// The column of the states, which is coloured.
const STATE: usize = 1;
/// The column of the errors, which is the last one and takes the rest of the line.
pub(super) const ERROR: usize = 6;
/// The columns that are left out on a narrow terminal, in order: the state implies PUBLISHED.
const LEFT_OUT_FIRST: [usize; 4] = [3, 2, 4, 5];
/// The columns that are left out, in order, if there is little room for errors.
const LESS_THAN_AN_ERROR: [usize; 2] = [3, 2];
/// The wanted width of an error that needs as much: most causes are readable in it.
const WANTED: usize = 40;
/// The gap between columns.
const GAP: &str = "  ";
/// The least width of an error; a shorter one is shown only below the table.
pub(super) const SHORTEST_ERROR: usize = 12;

/// The cells of a line.
pub(super) type StatusRow = [String; COLUMNS];

/// The widths of the columns, in cells of a terminal.
pub(super) struct Layout {
    /// None for a column that is left out, and for that of the errors.
    widths: [Option<usize>; COLUMNS],
    /// The width of errors; none if nothing is cut.
    pub(super) room: Option<usize>,
}

impl Layout {
    /// The layout of these rows, for a terminal of so many columns if there is one.
    pub(super) fn of(rows: &[StatusRow], columns: Option<usize>) -> Self {
        let mut widths = HEADINGS.map(|heading| Some(heading.width()));
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(Some(cell.width()));
            }
        }
        widths[ERROR] = None;
        let Some(columns) = columns else {
            return Layout { widths, room: None };
        };
        let taken = |widths: &[Option<usize>; COLUMNS]| {
            let widths = widths.iter().flatten();
            widths.map(|width| width + GAP.len()).sum::<usize>()
        };
        // Behind the last column nothing needs a gap.
        let fits = |widths: &_| taken(widths) <= columns + GAP.len();
        for column in LEFT_OUT_FIRST {
            if !fits(&widths) {
                widths[column] = None;
            }
        }
        // The cause of a failure is more useful than the time of publication.
        let longest = rows.iter().map(|row| row[ERROR].width()).max();
        let wanted = longest.unwrap_or_default().min(WANTED);
        for column in LESS_THAN_AN_ERROR {
            if columns.saturating_sub(taken(&widths)) < wanted {
                widths[column] = None;
            }
        }
        if !fits(&widths) {
            let both = columns.saturating_sub(GAP.len());
            let state = widths[STATE].unwrap_or_default();
            let name = widths[MACHINE].unwrap_or_default();
            // Half a name is less useful than half a state.
            let state = state.min(both.saturating_sub(name).max(both * 3 / 5));
            widths[STATE] = Some(state);
            widths[MACHINE] = Some(both - state);
        }
        Layout {
            room: Some(columns.saturating_sub(taken(&widths))),
            widths,
        }
    }

    /// One line of the table.
    pub(super) fn row(
        &self,
        cells: &StatusRow,
        colour: Option<Colour>,
        terminal: Option<Terminal>,
    ) -> String {
        let mut text = String::new();
        let mut gap = "";
        for (column, (cell, width)) in cells.iter().zip(self.widths).enumerate() {
            let Some(width) = width else { continue };
            let cell = cut(cell, width);
            // Filled up before it is coloured: the codes take no room on the terminal.
            let filled = format!("{cell}{}", " ".repeat(width - cell.width()));
            text.push_str(gap);
            text += &match colour {
                Some(colour) if column == STATE => paint(&filled, colour, terminal),
                _ => filled,
            };
            gap = GAP;
        }
        let error = match self.room {
            Some(room) if room < SHORTEST_ERROR => String::new(),
            Some(room) => cut(&cells[ERROR], room),
            None => cells[ERROR].clone(),
        };
        if !error.is_empty() {
            text.push_str(gap);
            text.push_str(&error);
        }
        text
    }
}
