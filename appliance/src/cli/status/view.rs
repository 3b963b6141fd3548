//! What is to be seen of a status on a screen: pure, so that it can be looked at without one.

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr;

use crate::status::Status;
use crate::status::table::{Table, cut, wrap};
use crate::text::terminal::{Colour, Terminal, paint};

/// How many lines and columns there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// In cells.
    pub columns: usize,
    /// One below the other.
    pub lines: usize,
}

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Enough.
    Quit,
    /// So many lines down; up, if negative.
    Line(isize),
    /// So many screens down; up, if negative.
    Page(isize),
    /// To the beginning.
    Home,
    /// To the end.
    End,
}

impl Key {
    /// The keys in what a terminal sends; those that mean nothing are left out.
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

/// How many bytes of a key belong together that means nothing here.
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

/// A status, and which part of it is looked at.
#[derive(Debug)]
pub struct View {
    status: Status,
    /// From how many machines those that are shown were chosen.
    of: usize,
    /// The first line of the table that is to be seen, below its headings.
    top: usize,
}

/// The most lines that what is wrong with the fleet as a whole takes, so that something is left for the machines.
const MOST_ABOVE: usize = 3;

impl View {
    /// A status, seen from the top.
    pub fn of(status: Status, of: usize) -> Self {
        View { status, of, top: 0 }
    }

    /// Shows another one at the same place.
    pub fn show(&mut self, status: Status, of: usize) {
        (self.status, self.of) = (status, of);
    }

    /// The moment of which the status is.
    pub fn at(&self) -> Timestamp {
        self.status.at
    }

    /// Moves to another part, as far as there is one.
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

    /// What is to be seen at a moment: no more lines than there are, none wider than there is room.
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
            head[MOST_ABOVE - 1] = red(&format!("✗ and {more} more: bento status shows all"));
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

/// What is to be seen, in full.
struct Parts {
    /// Always to be seen.
    head: Vec<String>,
    /// Of this as much as there is room for.
    body: Vec<String>,
    summary: String,
}

impl Parts {
    /// How many lines of the body are to be seen: one at least, and one less for the last line.
    fn room(&self, size: Size) -> usize {
        size.lines.saturating_sub(self.head.len() + 1).max(1)
    }
}

/// The last line: which states there are, and what can be pressed.
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
