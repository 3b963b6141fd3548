//! What the person at the terminal sees.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{self, Output};

/// How often the line moves that shows that something is going on.
const TICK: Duration = Duration::from_millis(100);
/// How long a log, which can't show a moving line, may stand still.
const STILL: Duration = Duration::from_secs(4);
const SPINNER: [char; 8] = ['⠋', '⠙', '⠸', '⠴', '⠦', '⠧', '⠇', '⠏'];
const MARGIN: &str = "    ";

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// A terminal, or a log.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    has_colours: bool,
    step: (u32, &'static str),
    /// When the latest line was printed.
    latest: Instant,
    /// Whether a moving line stands where the next line goes.
    moves: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Self {
            is_terminal: is_terminal && !is_dumb,
            has_colours: is_terminal && !is_dumb && !is_set("NO_COLOR"),
            step: (0, "setting it up"),
            latest: Instant::now(),
            moves: false,
        }
    }

    /// The number and the name of the step that is shown.
    pub(super) fn step(&self) -> (u32, &'static str) {
        self.step
    }

    /// Begins the next step.
    pub(super) fn begin(&mut self, name: &'static str) {
        self.step = (self.step.0 + 1, name);
        let title = format!("{}. {name}", self.step.0);
        let title = self.paint(BOLD, &title);
        self.print(&format!("\n{title}"));
    }

    /// A sentence for the person.
    pub(super) fn say(&mut self, text: &str) {
        self.print("");
        text.lines().for_each(|line| self.print(line));
    }

    /// A command that somebody types.
    pub(super) fn command(&mut self, prompt: &str, typed: &str) {
        let prompt = self.paint(CYAN, prompt);
        let typed: Vec<_> = typed.lines().map(|line| self.paint(BOLD, line)).collect();
        self.print(&format!("\n  {prompt} {}", typed.join("\n      ")));
    }

    /// A line that a program printed.
    pub(super) fn output(&mut self, line: &str) {
        // Not cut and not wrapped: a key that is copied must be whole, without a newline in it.
        let line = match line {
            "" => String::new(),
            line => format!("{MARGIN}{}", self.paint(DIM, line)),
        };
        self.print(&line);
    }

    /// What somebody changes in a file: lines that go and lines that come.
    pub(super) fn change(&mut self, old: &str, new: &str) {
        for (mark, colour, lines, others) in [("-", RED, old, new), ("+", GREEN, new, old)] {
            let is_other =
                |line: &&str| !line.is_empty() && !others.lines().any(|other| other == *line);
            for line in lines.lines().filter(is_other) {
                let line = self.paint(colour, &format!("{mark} {}", line.trim_start()));
                self.print(&format!("{MARGIN}{line}"));
            }
        }
    }

    /// Runs a command that somebody types, and shows what it prints while it does.
    ///
    /// # Errors
    /// As [`process::follow`]; that it fails is no error.
    pub(super) fn run(&mut self, prompt: &str, typed: &str, command: Command) -> Result<Output> {
        self.command(prompt, typed);
        let started = Instant::now();
        let output = process::follow(command, process::LONG, &mut |line| match line {
            Some(line) => self.output(line),
            None => self.tick("running", started),
        });
        self.clear();
        output
    }

    /// Says that something was seen to be as it should be.
    ///
    /// # Errors
    /// If it isn't: what should be, and what was seen instead.
    pub(super) fn check(&mut self, expected: &str, holds: bool, seen: impl Display) -> Result<()> {
        if !holds {
            bail!("expected  {expected}\nseen      {seen}");
        }
        let mark = self.paint(GREEN, "✓");
        self.print(&format!("  {mark} {expected}"));
        Ok(())
    }

    /// Shows that something is going on while `work` does it.
    pub(super) fn wait<T: Send>(&mut self, what: &str, work: impl FnOnce() -> T + Send) -> T {
        let started = Instant::now();
        let result = thread::scope(|scope| {
            let worker = scope.spawn(work);
            while !worker.is_finished() {
                self.tick(what, started);
                thread::sleep(TICK);
            }
            worker.join()
        });
        self.clear();
        result.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    fn tick(&mut self, what: &str, started: Instant) {
        let seconds = started.elapsed().as_secs();
        if self.is_terminal {
            let turn = started.elapsed().as_millis() / TICK.as_millis();
            let turn = usize::try_from(turn).unwrap_or(0) % SPINNER.len();
            let line = self.paint(DIM, &format!("{} {what} · {seconds} s", SPINNER[turn]));
            draw(&format!("\r\x1b[K  {line}"));
            self.moves = true;
        } else if self.latest.elapsed() >= STILL {
            self.print(&format!("  … {what} · {seconds} s"));
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.moves) {
            draw("\r\x1b[K");
        }
    }

    fn print(&mut self, line: &str) {
        self.clear();
        draw(&format!("{line}\n"));
        self.latest = Instant::now();
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn draw(text: &str) {
    let mut stdout = io::stdout().lock();
    // That the reader has gone away is no reason to stop in the middle.
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_expected_is_named_with_what_was_seen() {
        let error = Screen::new()
            .check("a cat", false, "a dog")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "expected  a cat\nseen      a dog");
    }
}
