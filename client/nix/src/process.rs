//! Programs whose output is read line by line while they run.

mod group;
mod limited;

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, WaitId, WaitIdOptions};

pub use group::Group;
pub use limited::{Limited, run_limited, run_limited_alone};

/// The longest line in bytes; longer ones are split, because output without a newline must not fill the memory.
const LINE_BYTES: usize = 64 << 10;
/// The most unread lines: a program that writes faster has to wait, or it would fill the memory.
const WAITING_LINES: usize = 16;
/// Time for output after the end of the program: its children may hold its output open for ever.
const LINGER: Duration = Duration::from_secs(1);

enum Event {
    Line(String),
    /// The program has ended; its status waits to be fetched.
    Ended(io::Result<()>),
}

/// Runs a program to its end, and passes each line of both outputs to `line`.
///
/// # Errors
/// When it can't be run.
pub fn run(command: Command, line: &mut dyn FnMut(&str)) -> anyhow::Result<ExitStatus> {
    run_with_pid(command, line, &mut |_| Ok(()))
}

/// Runs a program in a process group of its own, and passes the group to `started` while it runs.
///
/// # Errors
/// When it can't be run, or `started` failed; the program runs to its end all the same.
pub fn run_group(
    mut command: Command,
    line: &mut dyn FnMut(&str),
    started: &mut dyn FnMut(Group) -> anyhow::Result<()>,
) -> anyhow::Result<ExitStatus> {
    command.process_group(0);
    run_with_pid(command, line, &mut |leader| {
        Group::of(leader).map_or(Ok(()), &mut *started)
    })
}

/// Runs a program as [`run`] does, and passes its process id to `started` before the process can be reaped.
///
/// # Errors
/// When it can't be run, or `started` failed; the program runs to its end all the same.
pub fn run_with_pid(
    mut command: Command,
    line: &mut dyn FnMut(&str),
    started: &mut dyn FnMut(Pid) -> anyhow::Result<()>,
) -> anyhow::Result<ExitStatus> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't run {program}: is it installed, and in PATH?"))?;
    let (sender, receiver) = mpsc::sync_channel(WAITING_LINES);
    if let Some(stdout) = child.stdout.take() {
        read_in_background(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read_in_background(stderr, sender.clone());
    }
    let leader = Pid::from_child(&child);
    wait_in_background(leader, sender);
    let accepted = started(leader);
    let status = pass_on(&receiver, line)
        .and_then(|()| child.wait())
        .with_context(|| format!("can't wait for {program}"))?;
    accepted.map(|()| status)
}

fn pass_on(receiver: &Receiver<Event>, line: &mut dyn FnMut(&str)) -> io::Result<()> {
    loop {
        match receiver.recv() {
            Ok(Event::Line(text)) => line(&text),
            Ok(Event::Ended(waited)) => break waited?,
            Err(_) => return Err(io::Error::other("its end was not observed")),
        }
    }
    loop {
        match receiver.recv_timeout(LINGER) {
            Ok(Event::Line(text)) => line(&text),
            Ok(Event::Ended(_)) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Reports the end of a program without reaping it: until then no other process can have its id.
fn wait_in_background(program: Pid, sender: SyncSender<Event>) {
    thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let wait = || rustix::process::waitid(WaitId::Pid(program), options);
        let waited = rustix::io::retry_on_intr(wait);
        // The receiver is gone if the caller stopped waiting.
        let _ = sender.send(Event::Ended(waited.map(|_| ()).map_err(io::Error::from)));
    });
}

fn read_in_background(mut from: impl Read + Send + 'static, sender: SyncSender<Event>) {
    thread::spawn(move || {
        let mut lines = Lines::new(sender);
        let mut piece = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            lines.add(&piece[..count]);
        }
        lines.finish();
    });
}

/// Joins chunks of output into lines.
struct Lines {
    sender: SyncSender<Event>,
    begun: Vec<u8>,
}

impl Lines {
    fn new(sender: SyncSender<Event>) -> Self {
        Lines {
            sender,
            begun: Vec::new(),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.begun.extend_from_slice(text);
            if is_whole || self.begun.len() >= LINE_BYTES {
                self.send();
            }
        }
    }

    fn finish(mut self) {
        if !self.begun.is_empty() {
            self.send();
        }
    }

    fn send(&mut self) {
        let text = String::from_utf8_lossy(&self.begun)
            .trim_end_matches('\r')
            .to_owned();
        self.begun.clear();
        // The receiver is gone if output came after LINGER.
        let _ = self.sender.send(Event::Line(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_shell(script: &str) -> (ExitStatus, Vec<String>) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let status = run(command, &mut |line| lines.push(line.to_owned())).unwrap();
        (status, lines)
    }

    #[test]
    fn both_outputs_are_passed_on_in_lines() {
        let (status, mut lines) = run_shell("printf 'one\\ntwo'; printf 'three\\n\\n' >&2; exit 7");
        lines.sort();
        assert_eq!(lines, ["", "one", "three", "two"]);
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn children_that_outlive_a_program_cause_no_delay() {
        let (status, lines) = run_shell("sleep 1000 & echo $!");
        assert!(status.success());
        let number = lines[0]
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .unwrap();
        rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let (_, lines) = run_shell("head -c 200000 /dev/zero | tr '\\0' x");
        assert!(lines.iter().all(|line| line.len() <= LINE_BYTES + 8192));
        assert_eq!(lines.iter().map(String::len).sum::<usize>(), 200_000);
    }
}
