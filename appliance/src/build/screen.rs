//! The progress of builds: a live table on a terminal, otherwise one line for each event.

use std::io::Write;
use std::time::Instant;

use bento_protocol::HostName;

use super::BuildOutcome;
use super::progress::BuildStep;
use super::table::{self, BuildRow, RowState};
use crate::text::sanitise::is_shown;
use crate::text::terminal::{Colour, Terminal, legible, paint};

/// The output for the progress of builds.
pub struct Screen<'a> {
    output: &'a mut dyn Write,
    /// The terminal that `output` is.
    terminal: Option<Terminal>,
    /// Whether the table is redrawn in place.
    is_live: bool,
    rows: Vec<BuildRow>,
    began: Vec<Option<Instant>>,
    /// The number of lines of the drawn table.
    drawn: usize,
}

/// The height of a window of unknown size.
const LINES: usize = 24;

impl<'a> Screen<'a> {
    /// Creates a screen for an output, with its terminal, if it is one. With `lines`, other lines go to the same
    /// terminal, so nothing is redrawn.
    pub fn new(output: &'a mut dyn Write, terminal: Option<Terminal>, lines: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Screen {
            output,
            terminal,
            is_live: terminal.is_some() && !is_dumb && !lines,
            rows: Vec::new(),
            began: Vec::new(),
            drawn: 0,
        }
    }

    /// The terminal, if the output is one.
    pub fn terminal(&self) -> Option<Terminal> {
        self.terminal
    }

    /// Starts with these machines, all waiting.
    pub(super) fn begin<'n>(&mut self, names: impl Iterator<Item = &'n HostName>) {
        self.rows = names
            .map(|name| BuildRow {
                name: name.to_string(),
                state: RowState::Active(BuildStep::Waiting),
                took: None,
            })
            .collect();
        self.began = vec![None; self.rows.len()];
    }

    /// Shows the step of these machines.
    pub(super) fn set_step(&mut self, machines: &[usize], step: &BuildStep) -> std::io::Result<()> {
        let now = Instant::now();
        let mut changed = Vec::new();
        for index in machines {
            self.began[*index].get_or_insert(now);
            let row = &mut self.rows[*index];
            let is_new = match &row.state {
                RowState::Active(before) => before.phase() != step.phase(),
                _ => true,
            };
            row.state = RowState::Active(step.clone());
            if is_new {
                changed.push(row.name.clone());
            }
        }
        if self.is_live || changed.is_empty() {
            return Ok(());
        }
        writeln!(self.output, "{}: {}", changed.join(", "), step.phase())?;
        self.output.flush()
    }

    /// Shows the outcome of a machine.
    pub(super) fn set_outcome(
        &mut self,
        machine: usize,
        outcome: &BuildOutcome,
    ) -> std::io::Result<()> {
        let row = &mut self.rows[machine];
        row.took = self.began[machine].take().map(|began| began.elapsed());
        row.state = match outcome {
            BuildOutcome::Built { system, .. } => RowState::Built(system.to_string()),
            BuildOutcome::WouldBuild(counts) => RowState::WouldBuild(*counts),
            BuildOutcome::Failed { reason, .. } => RowState::Failed(reason.clone()),
            BuildOutcome::Interrupted => RowState::Interrupted,
        };
        if self.is_live {
            return Ok(());
        }
        let took = row.took.map(table::elapsed).unwrap_or_default();
        let name = &row.name;
        match outcome {
            BuildOutcome::Built { system, .. } => {
                writeln!(self.output, "{name}: built {system} in {took}")?;
            }
            BuildOutcome::WouldBuild(counts) => {
                writeln!(self.output, "{name}: evaluated in {took}: {counts}")?;
            }
            BuildOutcome::Failed { .. } if took.is_empty() => {
                writeln!(self.output, "{name}: failed")?
            }
            BuildOutcome::Failed { .. } => writeln!(self.output, "{name}: failed after {took}")?,
            BuildOutcome::Interrupted => writeln!(self.output, "{name}: interrupted")?,
        }
        self.output.flush()
    }

    /// Redraws the table on a terminal: the rows that fit, or, at the end, all.
    pub(super) fn draw(&mut self, is_last: bool) -> std::io::Result<()> {
        let Some(terminal) = self.terminal.filter(|_| self.is_live) else {
            return Ok(());
        };
        let now = Instant::now();
        for (row, began) in self.rows.iter_mut().zip(&self.began) {
            if let Some(began) = began {
                row.took = Some(now.duration_since(*began));
            }
        }
        let (columns, lines) = window(terminal);
        let terminal = Terminal {
            columns,
            ..terminal
        };
        // One line is left for the cursor.
        let lines = if is_last {
            usize::MAX
        } else {
            lines.saturating_sub(1)
        };
        let table = table::render(&self.rows, lines, terminal);
        let table: Vec<_> = table
            .into_iter()
            .map(|line| legible(line, Some(terminal)))
            .collect();
        let mut text = String::new();
        if self.drawn > 0 {
            text += &format!("\u{1b}[{}A", self.drawn);
        }
        text += "\r\u{1b}[J";
        for line in &table {
            text += line;
            text += "\n";
        }
        self.drawn = if is_last { 0 } else { table.len() };
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    /// Prints an error with its full cause, without control characters.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn print_error(&mut self, what: &str, reason: &str) -> std::io::Result<()> {
        let mark = paint("error:", Colour::Red, self.terminal);
        writeln!(self.output, "{mark} {what}")?;
        for line in reason.lines() {
            let line: String = line.chars().map(harmless).collect();
            writeln!(self.output, "{}", format!("  {line}").trim_end())?;
        }
        Ok(())
    }

    /// Prints one line.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn print_line(&mut self, line: &str) -> std::io::Result<()> {
        writeln!(self.output, "{line}")?;
        self.output.flush()
    }
}

/// The character, or a replacement for a control character. Columns stay the same: Nix marks columns in its errors.
fn harmless(character: char) -> char {
    match character {
        '\t' => ' ',
        shown if is_shown(shown) => shown,
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// The current columns and lines of the window.
fn window(terminal: Terminal) -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    let (columns, lines) = size.map_or((0, 0), |size| (size.ws_col.into(), size.ws_row.into()));
    let or = |number, otherwise| if number == 0 { otherwise } else { number };
    (or(columns, terminal.columns), or(lines, LINES))
}
