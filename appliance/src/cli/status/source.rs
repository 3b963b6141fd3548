//! The source of a followed status: the local state, or a remote appliance.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{Appliance, Remote};
use crate::status::{Follower, Status};
use crate::text::sanitise::one_line;

/// The longest status in bytes; that of 1,000 machines has less than 1 MiB.
const LONGEST: usize = 64 << 20;
/// The kept end of the command's stderr, in bytes.
const STDERR_BYTES: usize = 2 << 10;
/// The time for the command to exit after it was asked to.
const GRACE: Duration = Duration::from_millis(500);

/// A source that gives each changed status.
pub enum StatusSource {
    /// The local state.
    Here(Box<Follower>),
    /// A remote command.
    Remote(RemoteStatus),
}

/// A remote `bento status --json --watch`.
pub struct RemoteStatus {
    remote: Remote,
    child: Child,
    /// Its standard input; closed to end the command.
    input: Option<ChildStdin>,
    output: ChildStdout,
    errors: Option<ChildStderr>,
    line: Vec<u8>,
    said: Vec<u8>,
    newest: Option<Status>,
}

impl StatusSource {
    /// Starts to follow an appliance.
    ///
    /// # Errors
    /// When the state can't be read, or the command can't be run.
    pub fn of(appliance: Appliance) -> anyhow::Result<Self> {
        match appliance {
            Appliance::Here(state, runtime) => {
                let follower = Follower::of(&state, &runtime, Instant::now())?;
                Ok(StatusSource::Here(Box::new(follower)))
            }
            Appliance::Remote(remote) => RemoteStatus::ask(remote).map(StatusSource::Remote),
        }
    }

    /// The file descriptors to wait for.
    pub fn fds(&self) -> Vec<PollFd<'_>> {
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        match self {
            StatusSource::Here(_) => Vec::new(),
            StatusSource::Remote(remote) => remote.fds().into_iter().map(readable).collect(),
        }
    }

    /// The time of the next call of [`Self::next`], unless something can be read before.
    pub fn due(&self) -> Option<Instant> {
        match self {
            StatusSource::Here(follower) => Some(follower.due()),
            StatusSource::Remote(_) => None,
        }
    }

    /// Reads what is available, and returns the status if it changed.
    ///
    /// # Errors
    /// When the source has ended, with the cause.
    pub fn next(&mut self) -> anyhow::Result<Option<Status>> {
        match self {
            StatusSource::Here(follower) => follower.next(Instant::now()),
            StatusSource::Remote(remote) => {
                remote.take()?;
                Ok(remote.newest.take())
            }
        }
    }
}

impl RemoteStatus {
    fn ask(remote: Remote) -> anyhow::Result<Self> {
        let mut command = remote.bento(["status", "--json", "--watch", "--end-with-input"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| remote.failed("can't be run"))?;
        let output = child.stdout.take().context("a pipe was asked for")?;
        Ok(RemoteStatus {
            remote,
            input: child.stdin.take(),
            output,
            errors: child.stderr.take(),
            child,
            line: Vec::new(),
            said: Vec::new(),
            newest: None,
        })
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let errors = self.errors.as_ref().map(AsFd::as_fd);
        [self.output.as_fd()].into_iter().chain(errors).collect()
    }

    fn take(&mut self) -> anyhow::Result<()> {
        self.read_stderr();
        while is_readable(self.output.as_fd()) {
            let mut buffer = [0; 64 << 10];
            let count = match self.output.read(&mut buffer) {
                Ok(0) => bail!(self.end()),
                Ok(count) => count,
                Err(error) => {
                    return Err(error).with_context(|| self.remote.failed("can't be read"));
                }
            };
            let mut rest = &buffer[..count];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                self.line.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                self.newest = Some(self.parse()?);
                self.line.clear();
            }
            self.line.extend_from_slice(rest);
            if self.line.len() > LONGEST {
                bail!(self.remote.failed("printed a line that doesn't end"));
            }
        }
        Ok(())
    }

    fn parse(&self) -> anyhow::Result<Status> {
        serde_json::from_slice(&self.line).with_context(|| {
            let begin = String::from_utf8_lossy(&self.line[..self.line.len().min(200)]);
            self.remote.failed(&format!(
                "printed an unknown document (is it the same version of bento?): {}",
                one_line(&begin, 200)
            ))
        })
    }

    /// Keeps the end of its stderr, which would destroy the full screen.
    fn read_stderr(&mut self) {
        let mut buffer = [0; 4 << 10];
        while let Some(errors) = &mut self.errors
            && is_readable(errors.as_fd())
        {
            match errors.read(&mut buffer) {
                Ok(0) | Err(_) => self.errors = None,
                Ok(count) => self.said.extend_from_slice(&buffer[..count]),
            }
            let surplus = self.said.len().saturating_sub(STDERR_BYTES);
            self.said.drain(..surplus);
        }
    }

    /// The error message after its end.
    fn end(&mut self) -> String {
        let ended = self.stop();
        self.read_stderr();
        let said = one_line(&String::from_utf8_lossy(&self.said), usize::MAX);
        let how = match ended {
            Some(status) => format!("ended with {status}"),
            None => "stopped printing".to_owned(),
        };
        let said = if said.is_empty() {
            String::new()
        } else {
            format!(": {said}")
        };
        self.remote.failed(&format!("{how}{said}"))
    }

    /// Ends it: the end of input ends the remote `bento`, and TERM ends the local command, such as ssh.
    fn stop(&mut self) -> Option<ExitStatus> {
        self.input = None;
        let deadline = Instant::now() + GRACE;
        let mut is_signalled = false;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => break,
                Ok(status) => return status,
                Err(_) => return None,
            }
            if Instant::now() + GRACE / 2 >= deadline && !is_signalled {
                is_signalled = true;
                let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _gone = self.child.kill();
        let _status = self.child.wait();
        None
    }
}

impl Drop for RemoteStatus {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default()))
        .is_ok_and(|ready| ready > 0)
}
