//! Which columns of the table are shown, and how wide.

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
/// The column of the errors, which comes last and takes what is left of the line.
pub(super) const ERROR: usize = 6;
/// What is left out first on a terminal that is too narrow for all: PUBLISHED is told by the state, too.
const LEFT_OUT_FIRST: [usize; 4] = [3, 2, 4, 5];
/// What is left out, from the first on, where an error has little room.
const LESS_THAN_AN_ERROR: [usize; 2] = [3, 2];
/// How many cells an error should have, if it needs as many: most causes are readable in them.
const WANTED: usize = 40;
/// Between columns.
const GAP: &str = "  ";
/// An error isn't shown in fewer characters than this, only below the table.
pub(super) const SHORTEST_ERROR: usize = 12;

/// What stands in a line, column by column.
pub(super) type StatusRow = [String; COLUMNS];

/// Which columns are shown, and how wide they are, in cells of a terminal.
pub(super) struct Layout {
    /// None for a column that is left out. What stands in that of the errors doesn't count.
    widths: [Option<usize>; COLUMNS],
    /// What is left for errors; none where nothing is cut.
    pub(super) room: Option<usize>,
}

impl Layout {
    /// What fits these rows, on a terminal of so many columns if there is one.
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
        // Why a machine failed says more than since when it could have known.
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
            // A name that was cut in the middle says less than a state that was.
            let state = state.min(both.saturating_sub(name).max(both * 3 / 5));
            widths[STATE] = Some(state);
            widths[MACHINE] = Some(both - state);
        }
        Layout {
            room: Some(columns.saturating_sub(taken(&widths))),
            widths,
        }
    }

    /// A line.
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
