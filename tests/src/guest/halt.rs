//! Halting a client exactly where a phase of its update begins.
//!
//! The client has no hook for this: it writes `transaction.json` aside and renames it into place
//! before each phase, and strace makes every rename of its main thread end in a SIGSTOP. The kernel
//! delivers that once the rename is done, so the client stands still with the phase on disk and
//! nothing of it begun. What is then on disk shows whether this was the rename that is wanted;
//! phases that are skipped, and files that are renamed for other reasons, don't matter.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Guest, family};
use crate::process::{self, Output, Running};
use crate::wait;

/// Where the client notes which phase comes next, in the guest.
const TRANSACTION: &str = "/var/lib/bento/transaction.json";
/// Where it notes that it restarts the machine: by then the transaction has come to its end.
const REBOOTED: &str = "/var/lib/bento/rebooted.json";
/// C libraries and architectures differ in which of them they use.
const RENAMES: &str = "rename,renameat,renameat2";
/// What strace notes each time its process has come to a halt.
const STOPPED: &str = "--- stopped by SIGSTOP ---";

static COUNT: AtomicU32 = AtomicU32::new(1);

/// A client that stands still. Dropped, it is killed.
#[derive(Debug)]
pub struct Halted {
    /// Its number here.
    client: u32,
    /// When it was started; its number may be given again.
    start: String,
    /// strace's notes, as they are seen from here while the client lives.
    notes: PathBuf,
    /// How many of its halts are over.
    passed: usize,
    strace: Option<Running>,
}

impl Guest {
    /// Starts `bento-client update` and halts it where a phase begins, e.g. `"build"`: the phase is on
    /// disk, and nothing of it is done.
    ///
    /// # Errors
    /// If it ends before it comes to that phase: then the error carries all that it said.
    pub fn update_halted_at(&self, phase: &str) -> Result<Halted> {
        self.halted_at(phase, ["bento-client", "update"])
    }

    /// Does the same with another command of the client, or other arguments for it.
    ///
    /// # Errors
    /// As [`Guest::update_halted_at`].
    pub fn halted_at<I>(&self, phase: &str, command: I) -> Result<Halted>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let notes = format!("/run/halts-{}-{number}", std::process::id());
        let mut strace = self.command([
            "strace",
            "-qq",
            &format!("--output={notes}"),
            &format!("--trace={RENAMES}"),
            &format!("--inject={RENAMES}:signal=STOP"),
        ])?;
        strace.args(command);
        // What an earlier run has left there isn't this run's.
        let before = identity(&PathBuf::from(format!(
            "/proc/{}/root{}",
            self.first_process()?,
            note(phase)
        )));
        let mut strace = process::start(&mut strace)?;
        let client = wait::until("strace to start its command", process::SHORT, || {
            let client = family::traced(strace.id());
            (client.is_some() || strace.has_ended()).then_some(client)
        })?;
        let Some((client, start)) = client.and_then(|it| Some((it, family::start_time(it)?)))
        else {
            strace.end(process::SHORT)?.success()?;
            bail!("strace ended before its command could be seen");
        };
        let mut halted = Halted {
            client,
            start,
            notes: format!("/proc/{client}/root{notes}").into(),
            passed: 0,
            strace: Some(strace),
        };
        halted.come_to(phase, before)?;
        Ok(halted)
    }
}

impl Halted {
    /// Lets the client go on, and halts it again where a later phase begins.
    ///
    /// # Errors
    /// As [`Guest::update_halted_at`].
    pub fn go_on_to(&mut self, phase: &str) -> Result<()> {
        let before = identity(&self.file(note(phase)));
        self.pass()?;
        self.come_to(phase, before)
    }

    /// Lets the client go on to its end.
    ///
    /// # Errors
    /// If it doesn't end within [`process::LONG`].
    pub fn go_on(mut self) -> Result<Output> {
        self.pass()?;
        while self.next_halt()? {
            self.pass()?;
        }
        self.end()
    }

    /// Kills the client where it stands, with SIGKILL. Its children live on.
    ///
    /// # Errors
    /// If it doesn't end.
    pub fn kill(self) -> Result<Output> {
        self.signal(Signal::SIGKILL)?;
        self.end()
    }

    /// Waits for the end of a client that ends in some other way, e.g. with its machine.
    ///
    /// # Errors
    /// If it doesn't end within a minute.
    pub fn end(mut self) -> Result<Output> {
        let strace = self.strace.take().context("it was waited for already")?;
        strace.end(process::SHORT)
    }

    /// Passes one halt after the other, until the wanted phase has come to be on disk.
    fn come_to(&mut self, phase: &str, before: Option<Identity>) -> Result<()> {
        while self.next_halt()? {
            let is_noted = identity(&self.file(note(phase))) != before;
            if is_noted && (phase == "reboot" || self.phase()? == phase) {
                return Ok(());
            }
            self.pass()?;
        }
        let strace = self.strace.take().context("it was waited for already")?;
        let output = strace.end(process::SHORT)?;
        bail!(
            "the client never came to the phase {phase:?}; it ended with {}\n{}{}",
            output.status,
            output.stderr,
            output.stdout
        );
    }

    /// Waits until the client stands still again; false if it ended instead.
    fn next_halt(&mut self) -> Result<bool> {
        let strace = self.strace.as_mut().context("it was waited for already")?;
        wait::until("the client to halt or to end", process::LONG, || {
            let notes = fs::read_to_string(&self.notes).unwrap_or_default();
            // strace notes it first and then leaves the client halted; a SIGCONT in between is lost.
            if notes.matches(STOPPED).count() > self.passed && family::tracer_waits(self.client) {
                return Some(true);
            }
            strace.has_ended().then_some(false)
        })
    }

    fn pass(&mut self) -> Result<()> {
        self.passed += 1;
        self.signal(Signal::SIGCONT)
    }

    fn phase(&self) -> Result<String> {
        let file = self.file(TRANSACTION);
        let text = fs::read_to_string(&file)
            .with_context(|| format!("cannot read {TRANSACTION} of the guest"))?;
        let phase = serde_json::from_str::<Value>(&text)?["phase"].take();
        let phase = phase.as_str().map(str::to_owned);
        phase.with_context(|| format!("{TRANSACTION} names no phase: {text}"))
    }

    fn file(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.client).into()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if family::start_time(self.client).as_deref() != Some(&self.start) {
            bail!("the client that was halted has ended");
        }
        signal::kill(Pid::from_raw(i32::try_from(self.client)?), signal)
            .with_context(|| format!("cannot send {signal} to the client"))
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        if let Some(strace) = self.strace.take() {
            self.signal(Signal::SIGKILL).ok();
            strace.end(process::SHORT).ok();
        }
    }
}

/// The file that shows that a phase begins.
fn note(phase: &str) -> &'static str {
    if phase == "reboot" {
        REBOOTED
    } else {
        TRANSACTION
    }
}

/// Which file this is: its number, and when it was put in place. A number may be given again.
type Identity = (u64, i64, i64);

fn identity(file: &Path) -> Option<Identity> {
    let found = fs::metadata(file).ok()?;
    Some((found.ino(), found.ctime(), found.ctime_nsec()))
}
