use std::collections::VecDeque;

use bento_protocol::limits;

/// The last lines of the build's and the activation's output, for the report.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    /// Their length with a newline each.
    bytes: usize,
}

impl Tail {
    /// Adds a line; the oldest go when there is more than a report may carry.
    pub fn push(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > limits::LOG_BYTES {
            match self.lines.pop_front() {
                Some(oldest) => self.bytes -= oldest.len() + 1,
                None => break,
            }
        }
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The lines as one text, at most [`limits::LOG_BYTES`] long.
    pub fn text(&self) -> String {
        self.lines().flat_map(|line| [line, "\n"]).collect()
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
}
