//! The log of a session: each line of its sshd, with the user id of the process that wrote it.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair, sockopt,
};
use tracing::{Level, debug, info, warn};

/// The longest line that is read, in bytes; sshd itself stops at 1,024.
const LINE_BYTES: usize = 2048;

/// One line of a session's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The user id of the process that wrote it, from the kernel: only root can give another than its own.
    pub uid: u32,
    /// Safe to print: a client chooses parts of it.
    pub text: String,
}

/// The reading end of a log.
#[derive(Debug)]
pub(super) struct Log(OwnedFd);

impl Log {
    /// Opens both ends of a log: ours, and the one for sshd's stderr.
    ///
    /// It is a packet socket and not a pipe: so the kernel gives the writer of every line, and a line break inside of one
    /// doesn't start another.
    pub(super) fn open() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        sockopt::set_socket_passcred(&ours, true)?;
        Ok((Log(ours), theirs))
    }

    /// The next line if there is one now; none once every process of the session has ended.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing to read yet.
    pub(super) fn next(&self) -> io::Result<Option<Line>> {
        let mut bytes = [0; LINE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::DONTWAIT,
        )?;
        if message.bytes == 0 {
            return Ok(None);
        }
        let writer = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.uid.as_raw()),
            _ => None,
        });
        let uid = writer.ok_or_else(|| io::Error::other("a log line without its writer"))?;
        Ok(Some(Line::new(uid, &bytes[..message.bytes])))
    }
}

impl Line {
    /// The line of one write of a process.
    pub fn new(uid: u32, bytes: &[u8]) -> Self {
        Line {
            uid,
            text: one_line(&String::from_utf8_lossy(bytes)),
        }
    }

    /// Whether it reports a login, which sshd logs before anything runs as the machine's account.
    pub(super) fn is_login(&self) -> bool {
        self.uid == 0 && self.text.starts_with("Accepted ")
    }

    /// Its level: logins and trouble are visible by default, routine isn't.
    pub(super) fn level(&self, own: bool) -> Level {
        if own || is_routine(&self.text) {
            Level::DEBUG
        } else if self.text.starts_with("error:") || self.text.starts_with("fatal:") {
            Level::WARN
        } else {
            Level::INFO
        }
    }

    /// Writes it to the appliance's log.
    pub(super) fn emit(&self, session: u64, level: Level) {
        let text = &self.text;
        match level {
            Level::WARN => warn!(session, "sshd: {text}"),
            Level::INFO => info!(session, "sshd: {text}"),
            _ => debug!(session, "sshd: {text}"),
        }
    }
}

/// Whether sshd logs such a line in every session, at the log level that the appliance needs.
pub(super) fn is_routine(text: &str) -> bool {
    const ROUTINE: [&str; 11] = [
        "Accepted key ",
        "Changed root directory ",
        "Close session: ",
        "Closing connection ",
        "Connection from ",
        "Disconnected from user ",
        "Postponed publickey ",
        "Received disconnect ",
        "Starting session: ",
        "Transferred: ",
        "User child is on pid ",
    ];
    ROUTINE.iter().any(|start| text.starts_with(start))
}

impl AsFd for Log {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Any text as one line of printable ASCII.
pub(super) fn one_line(text: &str) -> String {
    let plain = |character: char| character.is_ascii_graphic() || character == ' ';
    text.trim_end()
        .chars()
        .flat_map(|character| {
            let (kept, escaped) = if plain(character) {
                (Some(character), None)
            } else {
                (None, Some(character))
            };
            kept.into_iter()
                .chain(escaped.into_iter().flat_map(char::escape_default))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\r\n"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(one_line("\u{202e}ü"), "\\u{202e}\\u{fc}");
    }

    #[test]
    fn each_line_has_the_user_id_of_its_writer() {
        let (log, theirs) = Log::open().unwrap();
        assert_eq!(log.next().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let write = |uid: u32, text: &str| {
            let status = Command::new("/bin/sh")
                .args(["-c", "printf '%b' \"$0\" >&2", text])
                .stderr(Stdio::from(theirs.try_clone().unwrap()))
                .uid(uid)
                .status();
            assert!(status.unwrap().success());
        };
        write(
            10_007,
            "Accepted publickey for root\\nUser child is on pid 1\\n",
        );
        write(0, "x");
        drop(theirs);
        let first = log.next().unwrap().unwrap();
        assert_eq!(first.uid, 10_007);
        assert_eq!(
            first.text,
            "Accepted publickey for root\\nUser child is on pid 1"
        );
        assert_eq!(
            log.next().unwrap(),
            Some(Line {
                uid: 0,
                text: "x".into()
            })
        );
        assert_eq!(log.next().unwrap(), None);
    }

    #[test]
    fn a_line_has_a_longest_length() {
        let (log, theirs) = Log::open().unwrap();
        rustix::io::write(&theirs, &[b'x'; 10_000]).unwrap();
        assert_eq!(log.next().unwrap().unwrap().text.len(), LINE_BYTES);
        assert_eq!(log.next().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
