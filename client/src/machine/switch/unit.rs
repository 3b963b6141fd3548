//! A program in a transient unit of systemd, from its start to its end.
//!
//! systemctl asks systemd itself, by a socket of its own, and not by way of the system bus: what is switched to may
//! restart the bus, or break it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bento_nix::activation::{UNIT_PROPERTIES, UnitState};
use bento_nix::process::{self, Limited};

/// Pause between two questions how far the unit is.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest time of one request.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest time without an answer by systemd: it gives none while it executes itself anew.
const SILENCE: Duration = Duration::from_secs(120);
/// The longest line that is passed on as one, in bytes: output without a newline must not fill the memory.
const LINE_BYTES: usize = 16 << 10;

/// Reason that the exit of a program in a unit is unknown.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnitError {
    /// It didn't begin.
    #[error("systemd-run can't start a switch: {0:#}")]
    NotStarted(anyhow::Error),
    /// It may have done anything.
    #[error("{0:#}")]
    Lost(anyhow::Error),
}

/// Starts a unit by this `systemd-run`, waits for the end of its program, and removes it. Each line of the unit's `log`
/// is passed to `line` meanwhile.
pub(super) fn run(
    start: Command,
    name: &str,
    log: Option<&Path>,
    line: &mut dyn FnMut(&str),
) -> Result<ExitStatus, UnitError> {
    let mut said = Vec::new();
    let started = process::run(start, &mut |text| said.push(text.to_owned()));
    let started = started.map_err(UnitError::NotStarted)?;
    let mut log = log
        .and_then(|path| File::open(path).ok())
        .map(Follower::new);
    let mut follow = |is_last| {
        if let Some(log) = &mut log {
            log.pass_on(is_last, line);
        }
    };
    let ended = wait(name, &mut || follow(false));
    follow(true);
    match ended {
        Ok(Some(status)) => {
            // What can't be removed now is removed when the switches of this run are stopped.
            let _ = end(name);
            Ok(status)
        }
        Ok(None) if !started.success() => {
            Err(UnitError::NotStarted(anyhow!("{}", said.join("; "))))
        }
        Ok(None) => Err(UnitError::Lost(anyhow!(
            "{name} was stopped before its end"
        ))),
        Err(error) => Err(UnitError::Lost(error)),
    }
}

/// Waits until a unit has ended, and gives how; none where there is no such unit.
fn wait(name: &str, meanwhile: &mut dyn FnMut()) -> anyhow::Result<Option<ExitStatus>> {
    let mut heard = Instant::now();
    loop {
        match ask(name) {
            Ok(UnitState::Ended(status)) => return Ok(Some(status)),
            Ok(UnitState::Gone) => return Ok(None),
            Ok(UnitState::Runs) => heard = Instant::now(),
            Err(error) if heard.elapsed() > SILENCE => {
                return Err(error.context(format!("systemd doesn't report how {name} ended")));
            }
            Err(_) => {}
        }
        meanwhile();
        thread::sleep(PAUSE);
    }
}

fn ask(name: &str) -> anyhow::Result<UnitState> {
    let mut command = Command::new("systemctl");
    command.args(["show", UNIT_PROPERTIES, name]);
    let mut said = Vec::new();
    let limited = process::run_limited(command, ANSWER, &mut |text| said.push(text.to_owned()))?;
    match limited {
        Limited::Ended(_) => {
            let said = said.join("\n");
            UnitState::parse(&said).with_context(|| said.clone())
        }
        Limited::TimedOut => Err(anyhow!(
            "systemctl had no answer for {} s",
            ANSWER.as_secs()
        )),
    }
}

/// Ends all units whose names match, and lets systemd forget how they ended.
pub(super) fn end(pattern: &str) -> std::io::Result<()> {
    for verb in ["stop", "reset-failed"] {
        // There may be none.
        Command::new("systemctl")
            .args([verb, "--quiet", pattern])
            .stderr(Stdio::null())
            .status()?;
    }
    Ok(())
}

/// A file that grows, in lines.
struct Follower {
    file: File,
    begun: Vec<u8>,
}

impl Follower {
    fn new(file: File) -> Self {
        Follower {
            file,
            begun: Vec::new(),
        }
    }

    /// Passes on what has come; a line that isn't whole only if nothing comes after it.
    fn pass_on(&mut self, is_last: bool, line: &mut dyn FnMut(&str)) {
        let mut show = |text: &[u8]| line(String::from_utf8_lossy(text).trim_end_matches('\r'));
        let mut piece = [0; LINE_BYTES];
        while let Ok(count @ 1..) = self.file.read(&mut piece) {
            self.begun.extend_from_slice(&piece[..count]);
            while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                show(&self.begun[..end]);
                self.begun.drain(..=end);
            }
            if self.begun.len() >= LINE_BYTES {
                show(&std::mem::take(&mut self.begun));
            }
        }
        if is_last && !self.begun.is_empty() {
            show(&std::mem::take(&mut self.begun));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_is_passed_on_in_whole_lines_and_its_rest_at_the_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut follower = Follower::new(file.reopen().unwrap());
        let mut lines = Vec::new();
        write!(file, "one\ntw").unwrap();
        follower.pass_on(false, &mut |text| lines.push(text.to_owned()));
        assert_eq!(lines, ["one"]);
        write!(file, "o\r\nthree").unwrap();
        follower.pass_on(true, &mut |text| lines.push(text.to_owned()));
        assert_eq!(lines, ["one", "two", "three"]);
        write!(file, "{}", "x".repeat(100_000)).unwrap();
        lines.clear();
        follower.pass_on(true, &mut |text| lines.push(text.to_owned()));
        assert!(lines.iter().all(|text| text.len() <= 2 * LINE_BYTES));
        assert_eq!(lines.concat().len(), 100_000);
    }
}
