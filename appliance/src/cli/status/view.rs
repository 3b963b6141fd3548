//! The status as lines of a screen, without any I/O.

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr;

use crate::status::Status;
use crate::status::table::{Table, cut, wrap};
use crate::text::terminal::{Colour, Terminal, paint};

/// The size of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The width in cells.
    pub columns: usize,
    /// The height.
    pub lines: usize,
}

/// A key with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Quit.
    Quit,
    /// Scroll down by lines; up if negative.
    Line(isize),
    /// Scroll down by screens; up if negative.
    Page(isize),
    /// Scroll to the beginning.
    Home,
    /// Scroll to the end.
    End,
}

impl Key {
    /// Parses the keys in the input of a terminal; unknown keys are skipped.
    pub fn all_of(bytes: &[u8]) -> Vec<Key> {
        const KEYS: [(&[u8], Key); 20] = [
            (b"\x1b[A", Key::Line(-1)),
            (b"\x1bOA", Key::Line(-1)),
            (b"\x1b[B", Key::Line(1)),
            (b"\x1bOB", Key::Line(1)),
            (b"\x1b[5~", Key::Page(-1)),
            (b"\x1b[6~", Key::Page(1)),
            (b"\x1b[H", Key::Home),
            (b"\x1bOH", Key::Home),
            (b"\x1b[1~", Key::Home),
            (b"\x1b[F", Key::End),
            (b"\x1bOF", Key::End),
            (b"\x1b[4~", Key::End),
            (b"k", Key::Line(-1)),
            (b"j", Key::Line(1)),
            (b"b", Key::Page(-1)),
            (b" ", Key::Page(1)),
            (b"g", Key::Home),
            (b"G", Key::End),
            (b"q", Key::Quit),
            (b"\x03", Key::Quit),
        ];
        let mut keys = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            match KEYS.iter().find(|(code, _)| rest.starts_with(code)) {
                Some((code, key)) => {
                    keys.push(*key);
                    rest = &rest[code.len()..];
                }
                None => rest = &rest[unknown(rest)..],
            }
        }
        keys
    }
}

/// The number of bytes of an unknown key.
fn unknown(bytes: &[u8]) -> usize {
    match bytes {
        [0x1b, b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| matches!(byte, 0x40..=0x7e));
            end.map_or(bytes.len(), |end| end + 3)
        }
        [0x1b, b'O', _, ..] => 3,
        _ => 1,
    }
}

/// A status with a scroll position.
#[derive(Debug)]
pub struct View {
    status: Status,
    /// The number of machines before the filter for problems.
    of: usize,
    /// The first visible line below the headings.
    top: usize,
}

/// The most lines for problems of the fleet, so that machines stay visible.
const MOST_ABOVE: usize = 3;

impl View {
    /// Shows a status from the top.
    pub fn of(status: Status, of: usize) -> Self {
        View { status, of, top: 0 }
    }

    /// Shows another status at the same position.
    pub fn show(&mut self, status: Status, of: usize) {
        (self.status, self.of) = (status, of);
    }

    /// The time of the status.
    pub fn at(&self) -> Timestamp {
        self.status.at
    }

    /// Scrolls for a key.
    pub fn press(&mut self, key: Key, size: Size) {
        let (lines, room) = self.body_and_room(size);
        let last = lines.saturating_sub(room);
        let page = isize::try_from(room.saturating_sub(1).max(1)).unwrap_or(1);
        self.top = match key {
            Key::Line(down) => self.top.saturating_add_signed(down),
            Key::Page(down) => self.top.saturating_add_signed(down * page),
            Key::Home => 0,
            Key::End => last,
            Key::Quit => self.top,
        }
        .min(last);
    }

    /// Draws the screen for the current time: at most the lines and columns of the size.
    pub fn draw(&mut self, now: Timestamp, size: Size, colours: bool) -> Vec<String> {
        let parts = self.parts(now, size, colours);
        let room = parts.room(size);
        let last = parts.body.len().saturating_sub(room);
        self.top = self.top.min(last);
        let shown = parts.body.iter().skip(self.top).take(room);
        let mut lines = parts.head;
        lines.extend(shown.cloned());
        if size.lines > lines.len() {
            let fill = size.lines - 1 - lines.len();
            lines.extend(std::iter::repeat_n(String::new(), fill));
            let range = (last > 0).then(|| format!("{}%", self.top * 100 / last));
            lines.push(foot(&parts.summary, range, size.columns));
        }
        lines.truncate(size.lines);
        lines
    }

    fn body_and_room(&self, size: Size) -> (usize, usize) {
        let parts = self.parts(self.status.at, size, false);
        (parts.body.len(), parts.room(size))
    }

    fn parts(&self, now: Timestamp, size: Size, colours: bool) -> Parts {
        let terminal = Terminal {
            columns: size.columns,
            colours,
            unicode: true,
        };
        let table = Table::new(&self.status, self.of, now, Some(terminal));
        let red = |line: &String| paint(&cut(line, size.columns), Colour::Red, Some(terminal));
        let mut head: Vec<_> = table.above.iter().take(MOST_ABOVE).map(red).collect();
        if table.above.len() > MOST_ABOVE {
            let more = table.above.len() - (MOST_ABOVE - 1);
            head[MOST_ABOVE - 1] = red(&format!("✗ and {more} more: run bento status for all"));
        }
        head.extend(table.headings);
        let below = table.below.iter();
        let below = below.flat_map(|line| wrap(line, size.columns));
        let gap = (!table.below.is_empty()).then(String::new);
        Parts {
            head,
            body: table.rows.into_iter().chain(gap).chain(below).collect(),
            summary: table.summary,
        }
    }
}

/// The complete contents.
struct Parts {
    /// Always visible.
    head: Vec<String>,
    /// Visible as far as there is room.
    body: Vec<String>,
    summary: String,
}

impl Parts {
    /// The number of visible lines of the body: at least one; the last line of the screen is for the summary.
    fn room(&self, size: Size) -> usize {
        size.lines.saturating_sub(self.head.len() + 1).max(1)
    }
}

/// The last line: the summary and the keys.
fn foot(summary: &str, place: Option<String>, columns: usize) -> String {
    let keys = match place {
        Some(place) => format!("{place}  ↑↓ scroll  q quit"),
        None => "q quit".to_owned(),
    };
    let left = columns.saturating_sub(keys.width() + 2);
    if left < 10 {
        return cut(summary, columns);
    }
    let summary = cut(summary, left);
    let gap = " ".repeat(columns - keys.width() - summary.width());
    format!("{summary}{gap}{keys}")
}

#[cfg(test)]
mod tests;
