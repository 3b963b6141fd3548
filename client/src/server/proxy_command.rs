//! A command that makes the connection, and what became of it.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::settings::Server;

/// How long a command that has hung up may take to end: only then it is known why.
const LINGER: Duration = Duration::from_secs(1);
/// The interval of the checks whether it has.
const LOOK: Duration = Duration::from_millis(10);
/// How much is kept of what it says: the end, because that is where a program says why it gives up.
const KEPT_BYTES: usize = 4 << 10;
/// How many lines of that are shown: as many as nc needs to say which option it doesn't know.
const SHOWN_LINES: usize = 8;

/// A proxy command that runs.
#[derive(Debug)]
pub(super) struct Proxy {
    child: Child,
    words: Words,
}

/// The end of a proxy command that made no connection.
#[derive(Debug, PartialEq, Eq)]
pub struct ProxyFate {
    end: End,
    said: String,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With an exit code; none if a signal ended it.
    Ended(Option<i32>),
    Stopped,
    Runs,
}

impl Proxy {
    /// Starts a command; gives the connection that it makes.
    pub(super) fn start(command: &str, server: &Server) -> io::Result<(UnixStream, Self)> {
        // libssh2 wants one descriptor for both directions, which two pipes aren't.
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(expand(command, server))
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let words = Words::of(child.stderr.take());
        Ok((ours, Proxy { child, words }))
    }

    /// Its end, if there is no connection.
    pub(super) fn fate(&self) -> ProxyFate {
        let deadline = Instant::now() + LINGER;
        let is_open = |end: &End| match end {
            End::Ended(_) => self.words.go_on(),
            End::Stopped => false,
            End::Runs => true,
        };
        let mut end = self.end();
        while is_open(&end) && Instant::now() < deadline {
            thread::sleep(LOOK);
            end = self.end();
        }
        ProxyFate {
            end,
            said: self.words.text(),
        }
    }

    /// The last of what it has said so far.
    pub(super) fn words(&self) -> String {
        self.words.text()
    }

    fn end(&self) -> End {
        let options = WaitIdOptions::EXITED
            | WaitIdOptions::STOPPED
            | WaitIdOptions::NOHANG
            | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(Pid::from_child(&self.child)), options) {
            Ok(Some(status)) if status.stopped() => End::Stopped,
            Ok(Some(status)) => End::Ended(status.exit_status()),
            Ok(None) | Err(_) => End::Runs,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its whole group, because the shell may have started more than one program. One that has ended already is
        // still there as a zombie, so its number can't be another's.
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl fmt::Display for ProxyFate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Ended(Some(code)) => write!(formatter, "ended with exit code {code}")?,
            End::Ended(None) => write!(formatter, "was ended by a signal")?,
            End::Stopped => write!(
                formatter,
                "wanted to ask something at the terminal, where no timer can answer it (`ssh -o BatchMode=yes` \
                 says what it lacks instead)"
            )?,
            End::Runs => write!(formatter, "still runs")?,
        }
        match (self.said.as_str(), &self.end) {
            ("", End::Ended(_)) => write!(
                formatter,
                ", without a word. Is there what it should go through?"
            ),
            ("", _) => Ok(()),
            (said, _) => write!(formatter, ". It said: {said}"),
        }
    }
}

/// The kept part of a program's standard error.
#[derive(Debug)]
struct Words {
    end: Arc<Mutex<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
}

impl Words {
    fn of(stderr: Option<ChildStderr>) -> Self {
        let end = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&end);
        let listen = |mut stderr: ChildStderr| {
            thread::spawn(move || {
                let mut piece = [0; 1024];
                while let Ok(count @ 1..) = stderr.read(&mut piece) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend_from_slice(&piece[..count]);
                    let surplus = kept.len().saturating_sub(KEPT_BYTES);
                    kept.drain(..surplus);
                }
            })
        };
        Words {
            end,
            listener: stderr.map(listen),
        }
    }

    /// Whether more may come.
    fn go_on(&self) -> bool {
        self.listener.as_ref().is_some_and(|it| !it.is_finished())
    }

    /// The last lines, as one.
    fn text(&self) -> String {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let text =
            String::from_utf8_lossy(&end).replace(|it: char| it.is_control() && it != '\n', " ");
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ")
    }
}

/// The command with the server's address and port in it.
fn expand(command: &str, server: &Server) -> String {
    let mut expanded = String::new();
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (character, characters.as_str().chars().next()) {
            ('%', Some('h')) => expanded += server.address.as_str(),
            ('%', Some('p')) => expanded += &server.port.to_string(),
            ('%', Some('%')) => expanded.push('%'),
            _ => {
                expanded.push(character);
                continue;
            }
        }
        characters.next();
    }
    expanded
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn fate_of(command: &str) -> String {
        let server = "localhost:1".parse().unwrap();
        let (_ours, proxy) = Proxy::start(command, &server).unwrap();
        proxy.fate().to_string()
    }

    #[test]
    fn a_proxy_command_knows_the_server() {
        let server = "bento.example.org:22".parse().unwrap();
        assert_eq!(
            expand("nc %h %p 100%% %x%", &server),
            "nc bento.example.org 22 100% %x%"
        );
    }

    #[test]
    fn a_proxy_command_is_the_connection_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let outlived = folder.path().join("outlived");
        let command = format!("cat; sleep 2; touch {}", outlived.display());
        let server = "localhost:1".parse().unwrap();
        let (stream, proxy) = Proxy::start(&command, &server).unwrap();
        (&stream).write_all(b"there and back").unwrap();
        let mut back = [0; 14];
        (&stream).read_exact(&mut back).unwrap();
        assert_eq!(&back, b"there and back");
        // It is waited for: were it not ended, it would have come to its end by itself.
        drop((stream, proxy));
        assert!(!outlived.exists());
    }

    #[test]
    fn a_proxy_command_that_fails_is_quoted_at_its_end() {
        assert_eq!(
            fate_of("printf 'a banner\\n\\n' >&2; printf 'no\\33[1m way\\n' >&2; exit 7"),
            "ended with exit code 7. It said: a banner; no [1m way"
        );
        let long = fate_of("seq 100000 >&2; exit 1");
        assert!(
            long.ends_with(" 99993; 99994; 99995; 99996; 99997; 99998; 99999; 100000"),
            "{long}"
        );
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn a_proxy_command_that_does_not_end_is_told_from_one_that_does() {
        for (command, fate) in [
            ("exit 0", "ended with exit code 0, without a word"),
            ("kill -TERM $$", "was ended by a signal"),
            ("kill -TTIN $$", "wanted to ask something"),
            ("echo oh >&2; exec sleep 100", "still runs. It said: oh"),
            // A program that it started still holds its output.
            (
                "echo oh >&2; sleep 100 & exit 3",
                "ended with exit code 3. It said: oh",
            ),
        ] {
            let end = fate_of(command);
            assert!(end.starts_with(fate), "{command}: {end}");
        }
    }
}
