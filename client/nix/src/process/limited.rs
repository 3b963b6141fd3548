//! Programs that must not take longer than a certain time, whatever they and their children do.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal};

use super::{Event, LINGER, WAITING_LINES, read_in_background, wait_in_background};

/// How long a program whose time is over may tidy up before it is killed.
const TIDY: Duration = Duration::from_secs(5);

/// What became of a program whose time was limited.
#[derive(Debug)]
pub enum Limited {
    /// It ended in time.
    Ended(ExitStatus),
    /// It didn't, and was ended.
    TimedOut,
}

/// Runs a program for at most `limit` (time spent suspended doesn't count) and passes each line that it writes, to
/// either output, to `line`. It has a process group of its own: when the time is over, the group gets TERM, and KILL
/// after 5 s more; when the program has ended, what it left behind in the group is killed. So this returns in any
/// case, also when the program hangs in the kernel or its children hold its output open.
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

/// The same in the caller's process group, so that what is typed at its terminal reaches the program, too. Only the
/// program itself is ended when its time is over: this is for those that see to their children, as Nix does.
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

/// Who is ended.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// The program's process group, also what is left of it when the program has ended.
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
        // Asked before the next line is: one that never stops writing must not put this off.
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
                let Some((signal, patience)) = steps.next() else {
                    // Not even KILL ends what hangs in the kernel, as on a file server that doesn't answer.
                    reap_in_background(child);
                    return Ok(Limited::TimedOut);
                };
                reach.send(leader, signal);
                deadline = Instant::now() + patience;
            }
        }
    };
    // Before the program is reaped: until then its number, and so the group's, can't be anybody else's.
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
        // It fails when nothing is left to get it.
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
    fn what_ends_in_time_gives_its_status_and_all_its_lines() {
        let (limited, mut lines) = run_shell("echo one; echo two >&2; exit 7", LONG);
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
        assert!(matches!(limited, Limited::Ended(status) if status.code() == Some(7)));
    }

    #[test]
    fn what_hangs_is_asked_to_end() {
        let script = "trap 'echo tidied; exit 0' TERM; echo $$; while :; do sleep 0.1; done";
        let (limited, lines) = run_shell(script, SHORT);
        assert!(matches!(limited, Limited::TimedOut));
        assert!(lines.iter().any(|line| line == "tidied"), "{lines:?}");
        assert_ends(&lines[0]);
    }

    #[test]
    fn what_ignores_that_is_killed_with_its_children() {
        let script = "trap '' TERM; (while :; do sleep 0.1; done) & echo $!; echo $$; wait; wait";
        let (limited, lines) = run_shell(script, SHORT);
        assert!(matches!(limited, Limited::TimedOut));
        assert_eq!(lines.len(), 2);
        lines.iter().for_each(|number| assert_ends(number));
    }

    #[test]
    fn what_never_stops_writing_ends() {
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
    fn a_child_that_left_the_group_does_not_hold_us_up() {
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
    fn what_cannot_be_run_says_so() {
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
