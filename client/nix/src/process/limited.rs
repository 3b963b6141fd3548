//! Programs with a time limit, whatever they and their children do.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal};

use super::{Event, LINGER, WAITING_LINES, read_in_background, wait_in_background};

/// Time between TERM and KILL.
const TIDY: Duration = Duration::from_secs(5);

/// Result of a program with a time limit.
#[derive(Debug)]
pub enum Limited {
    /// It ended in time, with this status.
    Ended(ExitStatus),
    /// It exceeded the limit, and was ended.
    TimedOut,
}

/// Runs a program for at most `limit` (time spent suspended doesn't count), and passes each line of both outputs to
/// `line`. The program has a process group of its own, which gets TERM after `limit`, and KILL 5 s later; when the
/// program has ended, the rest of the group is killed. So this always returns, even if the program hangs in the kernel
/// or its children hold its output open.
///
/// # Errors
/// When it can't be run.
pub fn run_limited(
    mut command: Command,
    limit: Duration,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<Limited> {
    command.process_group(0);
    run_within(command, limit, Reach::Group, line)
}

/// Runs a program as [`run_limited`] does, but in the caller's process group, so that it gets the signals of the
/// terminal, too. Only the program itself is ended after `limit`: this is for programs that end their children, as Nix
/// does.
///
/// # Errors
/// When it can't be run.
pub fn run_limited_alone(
    command: Command,
    limit: Duration,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<Limited> {
    run_within(command, limit, Reach::Program, line)
}

/// The processes that a signal reaches.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// The program's process group, even after the end of the program.
    Group,
    /// The program.
    Program,
}

fn run_within(
    mut command: Command,
    limit: Duration,
    reach: Reach,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<Limited> {
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

    let mut steps = [(Signal::TERM, TIDY), (Signal::KILL, LINGER)].into_iter();
    let mut deadline = Instant::now() + limit;
    let mut is_late = false;
    let waited = loop {
        // Checked before each line, since a program may never stop writing.
        let left = deadline.saturating_duration_since(Instant::now());
        let event = match left {
            Duration::ZERO => Err(RecvTimeoutError::Timeout),
            left => receiver.recv_timeout(left),
        };
        match event {
            Ok(Event::Line(text)) => line(&text),
            Ok(Event::Ended(ended)) => break ended,
            Err(RecvTimeoutError::Disconnected) => break Err(io::Error::other("nobody waits")),
            Err(RecvTimeoutError::Timeout) => {
                is_late = true;
                let Some((signal, grace)) = steps.next() else {
                    // Not even KILL ends a process that hangs in the kernel, as on a file server that doesn't answer.
                    reap_in_background(child);
                    return Ok(Limited::TimedOut);
                };
                reach.send(leader, signal);
                deadline = Instant::now() + grace;
            }
        }
    };
    // Before the program is reaped: until then no other process or group can have its number.
    if let Reach::Group = reach {
        reach.send(leader, Signal::KILL);
    }
    let status = waited.and_then(|()| child.wait());
    let status = status.with_context(|| format!("can't wait for {program}"))?;
    let deadline = Instant::now() + LINGER;
    while let Ok(Event::Line(text)) =
        receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        line(&text);
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(match is_late {
        true => Limited::TimedOut,
        false => Limited::Ended(status),
    })
}

fn reap_in_background(mut child: Child) {
    thread::spawn(move || child.wait());
}

impl Reach {
    fn send(self, leader: Pid, signal: Signal) {
        // It fails if no process is left.
        let _ = match self {
            Reach::Group => rustix::process::kill_process_group(leader, signal),
            Reach::Program => rustix::process::kill_process(leader, signal),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_shell(script: &str, limit: Duration) -> (Limited, Vec<String>) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let limited = run_limited(command, limit, &mut |line| lines.push(line.to_owned()));
        (limited.unwrap(), lines)
    }

    fn is_running(number: &str) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{number}/stat"));
        // A process that was killed may still have to be reaped by the machine's init.
        status.is_ok_and(|status| !status.contains(") Z "))
    }

    #[track_caller]
    fn assert_ends(number: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_running(number) {
            assert!(Instant::now() < deadline, "process {number} still runs");
            thread::sleep(Duration::from_millis(10));
        }
    }

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_secs(2);

    #[test]
    fn a_program_that_ends_in_time_gives_its_status_and_all_its_lines() {
        let (limited, mut lines) = run_shell("echo one; echo two >&2; exit 7", LONG);
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
        assert!(matches!(limited, Limited::Ended(status) if status.code() == Some(7)));
    }

    #[test]
    fn a_program_that_hangs_gets_term() {
        let script = "trap 'echo tidied; exit 0' TERM; echo $$; while :; do sleep 0.1; done";
        let (limited, lines) = run_shell(script, SHORT);
        assert!(matches!(limited, Limited::TimedOut));
        assert!(lines.iter().any(|line| line == "tidied"), "{lines:?}");
        assert_ends(&lines[0]);
    }

    #[test]
    fn a_program_that_ignores_term_is_killed_with_its_children() {
        let script = "trap '' TERM; (while :; do sleep 0.1; done) & echo $!; echo $$; wait; wait";
        let (limited, lines) = run_shell(script, SHORT);
        assert!(matches!(limited, Limited::TimedOut));
        assert_eq!(lines.len(), 2);
        lines.iter().for_each(|number| assert_ends(number));
    }

    #[test]
    fn a_program_that_never_stops_writing_is_ended() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM; while :; do echo again; done"]);
        let mut lines = 0;
        let limited = run_limited(command, SHORT, &mut |_| lines += 1);
        assert!(matches!(limited, Ok(Limited::TimedOut)));
        assert!(lines > 100);
    }

    #[test]
    fn children_that_are_left_behind_are_killed() {
        let (limited, lines) = run_shell("sleep 1000 & echo $!", LONG);
        assert!(matches!(limited, Limited::Ended(status) if status.success()));
        assert_ends(&lines[0]);
    }

    #[test]
    fn a_child_that_left_the_group_causes_no_delay() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "cd {}; setsid sh -c 'echo $$; : > escaped; exec sleep 1000' & until [ -e escaped ]; do sleep 0.05; done",
            folder.path().display()
        );
        let (limited, lines) = run_shell(&script, LONG);
        assert!(matches!(limited, Limited::Ended(status) if status.success()));
        let escaped = lines[0].parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(escaped, Signal::KILL).unwrap();
    }

    #[test]
    fn a_program_that_cannot_be_run_is_an_error() {
        let error = run_limited(Command::new("/nonexistent/check"), LONG, &mut |_| {});
        let error = format!("{:#}", error.unwrap_err());
        assert!(
            error.contains(
                "can't run /nonexistent/check: is it installed, and in PATH?: No such file"
            ),
            "{error}"
        );
    }
}
