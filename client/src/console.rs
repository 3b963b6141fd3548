//! Output of a run on the terminal or in the journal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use bento_protocol::Phase;

/// Output of a run: progress and the build's output on standard output, warnings on standard error.
#[derive(Debug)]
pub struct Console {
    is_terminal: bool,
    progress: Option<Instant>,
}

impl Console {
    /// Time between two drawings of a progress line.
    const REDRAW: Duration = Duration::from_millis(100);

    /// The console of this process.
    pub fn new() -> Self {
        Console {
            is_terminal: io::stdout().is_terminal(),
            progress: None,
        }
    }

    /// Prints a finished phase and its result.
    pub fn phase(&mut self, phase: &Phase, result: &str) {
        self.line(&format!(
            "{:<9}{:>7.1} s  {result}",
            phase.name, phase.seconds
        ));
    }

    /// Prints a line.
    pub fn line(&mut self, line: &str) {
        self.clear_progress();
        // A closed terminal must not end an update halfway.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// Prints a warning.
    pub fn warn(&mut self, warning: &str) {
        self.clear_progress();
        let _ = writeln!(io::stderr().lock(), "bento-client: warning: {warning}");
    }

    /// Shows the progress of a transfer, on a terminal only.
    pub fn progress(&mut self, name: &str, done: u64, total: u64) {
        let now = Instant::now();
        let is_due = self.progress.is_none_or(|last| now - last >= Self::REDRAW) || done == total;
        if !self.is_terminal || !is_due || total == 0 {
            return;
        }
        self.progress = Some(now);
        let mut out = io::stdout().lock();
        let _ = write!(out, "\r\x1b[K{name:<9}{}", bar(done, total));
        let _ = out.flush();
    }

    fn clear_progress(&mut self) {
        if self.progress.take().is_some() {
            let _ = write!(io::stdout().lock(), "\r\x1b[K");
        }
    }
}

/// Prints the output of a command. A closed pipe is no error, as with `head`.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Progress of a transfer: as a bar, in percent, and in numbers.
fn bar(done: u64, total: u64) -> String {
    const WIDTH: u64 = 30;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let part = |of: u64| {
        (u128::from(done.min(total)) * u128::from(of) / u128::from(total.max(1))) as usize
    };
    format!(
        "{:>4} % [{:<width$}] {:.1} of {:.1} MiB",
        part(100),
        "#".repeat(part(WIDTH)),
        mebibytes(done),
        mebibytes(total),
        width = WIDTH as usize,
    )
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_up_as_bytes_come() {
        let mebibyte = 1 << 20;
        assert_eq!(
            bar(mebibyte, 2 * mebibyte),
            format!("  50 % [{:<30}] 1.0 of 2.0 MiB", "#".repeat(15))
        );
        assert!(bar(0, mebibyte).starts_with("   0 % [ "));
        assert!(bar(u64::MAX, u64::MAX).starts_with(" 100 % [###"));
    }
}
