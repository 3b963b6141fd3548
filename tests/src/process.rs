//! Runs a command to its end, within a time limit, and keeps its output.

use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait;

/// For commands that take a moment: podman's, a client's poll.
pub const SHORT: Duration = Duration::from_secs(60);
/// For commands that do real work: a system build, loading an image, making a base tree.
pub const LONG: Duration = Duration::from_secs(300);

/// How often [`follow`] reports that a command is silent.
const TICK: Duration = Duration::from_millis(100);
/// How long a finished command's output may stay open: it has left a child that holds it.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);

/// The output of a command that ran to its end, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// As it would be typed, in backticks.
    command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; what isn't UTF-8 is replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// The same output, if the command succeeded.
    ///
    /// # Errors
    /// If it didn't: the command, how it ended, and all that it said.
    pub fn success(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        bail!(
            "{} ended with {}\n{}{}",
            self.command,
            self.status,
            self.stderr,
            self.stdout
        );
    }

    /// The exit code, or 128 and the signal's number, as a shell counts.
    #[must_use]
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Runs a command as its caller has set it up, however long it takes.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let output = command.output();
        let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            command: format!("`{}`", line(command)),
            ..Self::from(output)
        }
    }

    /// The same output, with which a test goes on if the exit code is this.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.code(), code, "{}: {stdout}\n{stderr}", self.command);
        self
    }

    /// The same output, with which a test goes on if either stream contains this.
    #[track_caller]
    pub fn saying(self, text: &str) -> Self {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert!(said.contains(text), "{text:?} isn't in {said}");
        self
    }

    /// The same output, with which a test goes on if standard error contains this.
    #[track_caller]
    pub fn complaining(self, text: &str) -> Self {
        let said = &self.stderr;
        assert!(said.contains(text), "{text:?} isn't in {said}");
        self
    }

    /// The same output, with which a test goes on if standard error is empty.
    #[track_caller]
    pub fn without_complaint(self) -> Self {
        assert_eq!(self.stderr, "");
        self
    }
}

impl From<process::Output> for Output {
    fn from(output: process::Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            command: "the command".to_owned(),
            status: output.status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Runs a command with nothing on its standard input.
///
/// # Errors
/// If it can't be started, or is still running after `limit`: then it is killed, with its children.
/// A command that fails is no error here; see [`Output::success`].
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    finish(command.stdin(Stdio::null()), None, limit)
}

/// Runs a command with `input` on its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    finish(command.stdin(Stdio::piped()), Some(input.to_vec()), limit)
}

/// Runs a command whose standard input was set by the caller, e.g. to a file.
///
/// # Errors
/// As [`run`].
pub fn run_as_set_up(command: &mut Command, limit: Duration) -> Result<Output> {
    finish(command, None, limit)
}

/// Runs a command whose standard output and standard error are pipes that nobody reads.
///
/// # Errors
/// If it can't be started.
pub fn run_unread(command: &mut Command) -> io::Result<ExitStatus> {
    let (stdout, stderr) = (io::pipe()?.1, io::pipe()?.1);
    command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .status()
}

/// Runs a command with nothing on its standard input, and reports while it runs: each line of its standard output and
/// standard error as it comes, and nothing, ten times a second, while none comes.
///
/// Gives all of these lines as its standard output.
///
/// # Errors
/// As [`run`].
pub fn follow(
    mut command: Command,
    limit: Duration,
    report: &mut dyn FnMut(Option<&str>),
) -> Result<Output> {
    let line = line(&command);
    let deadline = Instant::now() + limit;
    // One pipe for both, as on a terminal: what was said first comes first.
    let (reader, writer) = io::pipe()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    // It holds the pipe's writing end open.
    drop(command);
    let lines = gather_lines(reader);
    let mut said = String::new();
    loop {
        match lines.recv_timeout(TICK) {
            Ok(text) => {
                report(Some(&text));
                said += &text;
                said.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => report(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if Instant::now() > deadline {
            break;
        }
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let status = end(&mut child, &line, left)
        .with_context(|| format!("`{line}` was killed; it had said: {said}"))?;
    Ok(Output {
        command: format!("`{line}`"),
        status,
        stdout: said,
        stderr: String::new(),
    })
}

fn gather_lines(pipe: PipeReader) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(pipe).split(b'\n');
        while let Some(Ok(line)) = lines.next() {
            let text = String::from_utf8_lossy(&line);
            if sender.send(text.trim_end_matches('\r').to_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A command that runs while the caller does something else.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
}

/// Starts a command with nothing on its standard input.
///
/// # Errors
/// If it can't be started.
pub fn start(command: &mut Command) -> Result<Running> {
    Running::start(command.stdin(Stdio::null()))
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let line = line(command);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that a limit that has passed ends the children too.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        Ok(Self {
            stdout: gather(child.stdout.take()),
            stderr: gather(child.stderr.take()),
            line,
            child,
        })
    }

    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it is still running after `limit`: then it is killed, with its children.
    pub fn end(mut self, limit: Duration) -> Result<Output> {
        let line = self.line;
        let status = match end(&mut self.child, &line, limit) {
            Ok(status) => status,
            Err(error) => {
                let said = self.stderr.recv_timeout(OUTPUT_GRACE).unwrap_or_default();
                return Err(error.context(format!("`{line}` was killed; it had said: {said}")));
            }
        };
        let text = |from: mpsc::Receiver<String>| {
            from.recv_timeout(OUTPUT_GRACE)
                .with_context(|| format!("`{line}` ended, but left a child that holds its output"))
        };
        Ok(Output {
            status,
            stdout: text(self.stdout)?,
            stderr: text(self.stderr)?,
            command: format!("`{line}`"),
        })
    }
}

fn finish(command: &mut Command, input: Option<Vec<u8>>, limit: Duration) -> Result<Output> {
    let mut running = Running::start(command)?;
    if let (Some(mut pipe), Some(input)) = (running.child.stdin.take(), input) {
        // A command may end without having read everything: its exit code says whether that is right.
        thread::spawn(move || pipe.write_all(&input).ok());
    }
    running.end(limit)
}

/// Waits for a child; kills its group when it takes too long.
fn end(child: &mut Child, line: &str, limit: Duration) -> Result<ExitStatus> {
    let ended = wait::until(&format!("`{line}` to end"), limit, || {
        child.try_wait().transpose()
    });
    match ended {
        Ok(status) => status.context("cannot wait for a child"),
        Err(error) => {
            let group = Pid::from_raw(i32::try_from(child.id())?);
            killpg(group, Signal::SIGKILL).ok();
            child.wait().ok();
            Err(error)
        }
    }
}

fn gather(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        sender.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    receiver
}

/// A command as it would be typed, for messages: without the user and the namespaces in which it is run,
/// which all end with `env -i` and the variables.
fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let wrapped = words.windows(2).position(|pair| *pair == ["env", "-i"]);
    let typed = wrapped.and_then(|at| {
        let variables = &words[at + 2..];
        let end = variables.iter().position(|word| !word.contains('='))?;
        Some(&variables[end..])
    });
    typed.unwrap_or(&words).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn keeps_both_outputs_and_the_code() {
        let output = run(&mut shell("echo out; echo err >&2; exit 3"), SHORT).unwrap();
        assert_eq!(
            (
                output.stdout.as_str(),
                output.stderr.as_str(),
                output.code()
            ),
            ("out\n", "err\n", 3)
        );
        let error = output.success().unwrap_err().to_string();
        assert!(error.contains("err") && error.contains("exit 3"), "{error}");
    }

    #[test]
    fn names_a_command_without_its_wrapping() {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=1000",
            "--",
            "env",
            "-i",
            "HOME=/home",
            "podman",
            "--log=a",
            "ps",
        ]);
        assert_eq!(line(&command), "podman --log=a ps");
        assert_eq!(line(&shell("true")), "sh -c true");
    }

    #[test]
    fn hands_over_more_input_than_a_pipe_holds() {
        let input = vec![b'x'; 1 << 20];
        let output = run_with_input(&mut shell("wc -c"), &input, SHORT).unwrap();
        assert_eq!(output.stdout.trim(), "1048576");
    }

    #[test]
    fn reports_each_line_in_order_and_silence() {
        let (mut lines, mut silences) = (Vec::new(), 0);
        let script = shell("echo out; echo err >&2; sleep 0.5; printf last; exit 3");
        let output = follow(script, SHORT, &mut |line| match line {
            Some(line) => lines.push(line.to_owned()),
            None => silences += 1,
        });
        let output = output.unwrap();
        assert_eq!(lines, ["out", "err", "last"]);
        assert!(silences > 0);
        assert_eq!(
            (output.stdout.as_str(), output.code()),
            ("out\nerr\nlast\n", 3)
        );
    }

    #[test]
    fn kills_what_is_followed_for_too_long() {
        let limit = Duration::from_millis(300);
        let error = follow(shell("echo busy; sleep 600"), limit, &mut |_| ()).unwrap_err();
        assert!(format!("{error:#}").contains("busy"), "{error:#}");
    }

    #[test]
    fn kills_what_takes_too_long_and_its_children() {
        let error = run(
            &mut shell("echo busy >&2; sleep 600 & wait"),
            Duration::from_millis(300),
        )
        .unwrap_err();
        assert!(format!("{error:#}").contains("busy"), "{error:#}");
    }
}
