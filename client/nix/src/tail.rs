use bento_protocol::limits;

/// The last lines of the build's and the activation's output, for the report.
#[derive(Debug, Default)]
pub struct Tail {
    /// One text, because a million empty lines would take 24 MB as strings of their own.
    text: String,
}

impl Tail {
    /// Bytes kept beyond the limit of a report, so that not every line moves all others.
    const SLACK: usize = 64 << 10;

    /// Adds a line; the oldest ones are dropped beyond the limit of a report.
    pub fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        if self.text.len() > limits::LOG_BYTES + Self::SLACK {
            self.text.drain(..self.surplus());
        }
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text[self.surplus()..].lines()
    }

    /// The lines as one text, at most [`limits::LOG_BYTES`] long.
    pub fn text(&self) -> String {
        self.text[self.surplus()..].to_owned()
    }

    /// The length of the lines beyond the limit.
    fn surplus(&self) -> usize {
        match self.text.len().checked_sub(limits::LOG_BYTES) {
            None | Some(0) => 0,
            // A line that would be cut is dropped as a whole; one that begins at the limit stays.
            Some(too_much) => self.text.as_bytes()[too_much - 1..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(self.text.len(), |end| too_much + end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_log_is_kept() {
        let mut tail = Tail::default();
        let line = "x".repeat(1000);
        for _ in 0..2000 {
            tail.push(&line);
        }
        tail.push("the end");
        let text = tail.text();
        assert!(text.len() <= limits::LOG_BYTES);
        assert!(text.len() > limits::LOG_BYTES - 2000);
        assert!(text.ends_with("x\nthe end\n"));
        tail.push(&"y".repeat(limits::LOG_BYTES));
        assert_eq!(tail.text(), "");
    }

    #[test]
    fn only_whole_lines_are_kept() {
        let mut tail = Tail::default();
        tail.push("");
        tail.push(&"ä".repeat(limits::LOG_BYTES / 2 - 3));
        tail.push("two");
        assert_eq!(tail.text().len(), limits::LOG_BYTES);
        tail.push("three");
        assert_eq!(tail.text(), "two\nthree\n");
        assert_eq!(tail.lines().collect::<Vec<_>>(), ["two", "three"]);
    }
}
