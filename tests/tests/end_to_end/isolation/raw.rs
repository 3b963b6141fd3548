//! A client of SFTP that sends any packet: OpenSSH's `ssh` carries the packets, the test writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bento_tests::process;

use crate::machine::Machine;

/// Types of requests and answers, by their names in version 3 of the protocol.
pub(super) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED: u8 = 200;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// The flags of OPEN.
pub(super) mod flag {
    pub(crate) const READ: u32 = 1;
    pub(crate) const WRITE: u32 = 2;
    pub(crate) const CREATE: u32 = 8;
    pub(crate) const TRUNCATE: u32 = 16;
    pub(crate) const EXCLUSIVE: u32 = 32;
    /// Every combination of the flags that there are.
    pub(crate) const ALL: std::ops::Range<u32> = 0..64;
}

/// No attributes.
pub(super) const NONE: &[u8] = &[0; 4];

/// A number, as it is sent.
pub(super) fn number(value: u32) -> Vec<u8> {
    value.to_be_bytes().into()
}

/// A text or a handle, as it is sent.
pub(super) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u32::try_from(bytes.len()).expect("no test sends 4 GiB");
    [&length.to_be_bytes(), bytes].concat()
}

/// What the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A status, by its number.
    Status(u32),
    /// A handle.
    Handle(Vec<u8>),
    /// Any other answer: its type, and what follows the id.
    Other(u8, Vec<u8>),
}

impl Answer {
    fn of(kind: u8, body: &[u8]) -> Option<Self> {
        Some(match kind {
            kind::STATUS => Answer::Status(u32::from_be_bytes(*body.first_chunk()?)),
            kind::HANDLE => Answer::Handle(body.get(4..)?.into()),
            kind => Answer::Other(kind, body.into()),
        })
    }

    /// The type of the answer; a status by its number and a point.
    pub(super) fn brief(&self) -> String {
        match self {
            Answer::Status(status) => format!("status {status}"),
            Answer::Handle(_) => "handle".to_owned(),
            Answer::Other(kind::DATA, _) => "data".to_owned(),
            Answer::Other(kind::NAME, _) => "name".to_owned(),
            Answer::Other(kind::ATTRS, _) => "attributes".to_owned(),
            Answer::Other(kind::VERSION, _) => "version".to_owned(),
            Answer::Other(kind::EXTENDED_REPLY, _) => "reply".to_owned(),
            Answer::Other(kind, _) => format!("type {kind}"),
        }
    }
}

/// A session.
pub(super) struct Raw {
    ssh: Child,
    to: Option<ChildStdin>,
    packets: Receiver<Vec<u8>>,
    /// What ssh says of the session, in detail.
    said: File,
    /// Every byte of SFTP that was received.
    heard: Vec<u8>,
    next: u32,
    /// The extensions that the server says it has, with their versions.
    pub(super) extensions: BTreeMap<String, String>,
}

impl Raw {
    /// Logs in and agrees on version 3.
    pub(super) fn open(machine: &Machine) -> Result<Self> {
        let said = tempfile::tempfile()?;
        let mut command = machine.subsystem(&["-v"], "sftp");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut ssh = command.stderr(said.try_clone()?).spawn()?;
        let to = ssh.stdin.take();
        let mut from = ssh.stdout.take().context("it was piped")?;
        let (sender, packets) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(packet) = read_packet(&mut from) {
                if sender.send(packet).is_err() {
                    return;
                }
            }
        });
        let mut raw = Raw {
            ssh,
            to,
            packets,
            said,
            heard: Vec::new(),
            next: 0,
            extensions: BTreeMap::new(),
        };
        raw.write(&[&[kind::INIT][..], &number(3)].concat())?;
        let version = raw.receive()?.context("the server says nothing")?;
        ensure!(
            version.starts_with(&[kind::VERSION, 0, 0, 0, 3]),
            "{version:?}"
        );
        let mut rest = &version[5..];
        while !rest.is_empty() {
            let name = split_text(&mut rest).context("an extension has a name")?;
            let value = split_text(&mut rest).context("and a version")?;
            raw.extensions.insert(name, value);
        }
        Ok(raw)
    }

    /// Sends a request, with an id of its own, and gives the answer to it.
    pub(super) fn ask(&mut self, kind: u8, body: &[u8]) -> Result<Answer> {
        let id = self.send(kind, body)?;
        let packet = self.receive()?.with_context(|| {
            format!("the session has ended, with request {kind} and {body:?} for its last")
        })?;
        let (kind, rest) = packet.split_first().context("an empty packet")?;
        if *kind == kind::VERSION {
            return Ok(Answer::Other(*kind, rest.into()));
        }
        let (of, body) = rest.split_at_checked(4).context("an answer has an id")?;
        ensure!(
            of == id.to_be_bytes(),
            "an answer to something else: {packet:?}"
        );
        Answer::of(*kind, body).context("the answer is too short")
    }

    /// Sends a request and waits for nothing; gives its id.
    fn send(&mut self, kind: u8, body: &[u8]) -> Result<u32> {
        self.next += 1;
        let id = self.next;
        self.write(&[&[kind][..], &number(id), body].concat())?;
        Ok(id)
    }

    /// Sends requests of these types, to none of which there must be an answer, each before others to which there is.
    pub(super) fn ask_in_vain(&mut self, kinds: impl Iterator<Item = u8>) -> Result<()> {
        let (mut asked, mut answered) = (BTreeSet::new(), BTreeSet::new());
        for kind in kinds {
            self.send(kind, &string("/"))?;
            asked.insert(self.send(kind::REALPATH, &string("/"))?);
        }
        // After a request that it doesn't answer, sshd reads the next one only when more comes.
        let deadline = Instant::now() + process::SHORT;
        while answered.len() < asked.len() {
            match self.packets.recv_timeout(Duration::from_millis(5)) {
                Ok(packet) => _ = answered.insert(id_of(&packet)?),
                Err(_) => _ = asked.insert(self.send(kind::REALPATH, &string("/"))?),
            }
            ensure!(Instant::now() < deadline, "there are no answers");
        }
        ensure!(answered == asked, "others were answered");
        Ok(())
    }

    /// Sends a packet as it is, whatever its length says.
    pub(super) fn write_raw(&mut self, bytes: &[u8]) -> Result<()> {
        let to = self.to.as_mut().context("it is open")?;
        to.write_all(bytes)?;
        Ok(to.flush()?)
    }

    /// Whether the server ends the session, rather than answer.
    pub(super) fn is_ended(&mut self) -> Result<bool> {
        Ok(self.receive()?.is_none())
    }

    /// Ends the session; gives every byte that was received, and all that ssh has said about it.
    pub(super) fn end(mut self) -> Result<Vec<u8>> {
        drop(self.to.take());
        while self.receive()?.is_some() {}
        self.ssh.wait()?;
        self.said.rewind()?;
        self.said.read_to_end(&mut self.heard)?;
        Ok(std::mem::take(&mut self.heard))
    }

    fn write(&mut self, packet: &[u8]) -> Result<()> {
        self.write_raw(&string(packet))
    }

    /// The next packet; none at the end of the session.
    fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        match self.packets.recv_timeout(process::SHORT) {
            Ok(packet) => {
                self.heard.extend(&packet);
                Ok(Some(packet))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(error @ RecvTimeoutError::Timeout) => Err(error).context("no answer came"),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

fn read_packet(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut packet = Vec::new();
    let length = u64::from(u32::from_be_bytes(length));
    match from.take(length).read_to_end(&mut packet)? as u64 == length {
        true => Ok(packet),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn id_of(packet: &[u8]) -> Result<u32> {
    let id = packet.get(1..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_be_bytes(*id.context("an answer has an id")?))
}

/// Takes a text off the beginning.
fn split_text(bytes: &mut &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.into()).ok()
}
