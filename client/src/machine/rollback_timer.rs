//! Timer that brings the old system back when nothing confirms the new one.
//!
//! A file named for the run says that it is armed. To decide is to rename that file, so that of a commit and a rollback
//! exactly one comes about, whichever processes try. A rollback is set off by a transient systemd timer, which needs
//! no client to be alive; where there is no systemd, by a process of its own.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bento_protocol::{RunId, SystemPath};

use crate::machine::Machine;
use crate::state::State;
use crate::state::atomic_file;

/// Pause between two checks of a process whether it still has to wait.
const PAUSE: Duration = Duration::from_millis(500);

/// Room for the results of a decision: links, records and a report, on a disk that is full by then. In bytes.
const RESERVE: usize = 256 << 10;

/// Decision about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing yet: the rollback may come.
    Armed,
    /// The new system stays.
    Committed,
    /// The old system is to come back.
    RollingBack,
    /// The old system is back.
    RolledBack,
}

impl Decision {
    const ALL: [Decision; 4] = [
        Decision::Armed,
        Decision::Committed,
        Decision::RollingBack,
        Decision::RolledBack,
    ];

    fn word(self) -> &'static str {
        match self {
            Decision::Armed => "armed",
            Decision::Committed => "committed",
            Decision::RollingBack => "rolling-back",
            Decision::RolledBack => "rolled-back",
        }
    }

    fn path(self, state: &State, run: RunId) -> PathBuf {
        state.armed_folder().join(format!("{run}.{}", self.word()))
    }
}

/// The decision about a run that was armed; none if it wasn't.
pub(crate) fn decision(state: &State, run: RunId) -> anyhow::Result<Option<Decision>> {
    for decision in Decision::ALL {
        let path = decision.path(state, run);
        let exists = path.try_exists();
        if exists.with_context(|| format!("can't read {}", path.display()))? {
            return Ok(Some(decision));
        }
    }
    Ok(None)
}

/// Decides about a run if nothing has decided yet, or that its rollback is done. Whether it was decided here.
pub(crate) fn decide(state: &State, run: RunId, decision: Decision) -> anyhow::Result<bool> {
    // One that can't be removed takes room, and nothing more.
    let _ = atomic_file::remove_if_there(&state.reserve());
    let from = match decision {
        Decision::RolledBack => Decision::RollingBack,
        _ => Decision::Armed,
    };
    turn(state, run, from, decision)
}

fn turn(state: &State, run: RunId, from: Decision, to: Decision) -> anyhow::Result<bool> {
    let (from, to) = (from.path(state, run), to.path(state, run));
    match atomic_file::rename(&from, &to) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Arms: from now on the old system comes back after this time, unless it is decided otherwise. `previous` is kept
/// from Nix' garbage collection until then, and some room on the disk for going back.
pub(crate) fn arm(
    machine: &Machine,
    state: &State,
    run: RunId,
    previous: &SystemPath,
    after: Duration,
    arguments: &[String],
) -> anyhow::Result<()> {
    keep_from_collection(&state.previous(), previous)?;
    atomic_file::write(&state.reserve(), &vec![0x5a; RESERVE], 0o600)?;
    atomic_file::write(&Decision::Armed.path(state, run), b"", 0o600)?;
    let client = std::env::current_exe().context("can't find the client's own program")?;
    let arguments = arguments
        .iter()
        .cloned()
        .chain(["--armed".to_owned(), run.to_string()]);
    let set_off = if machine.has_systemd() {
        set_timer(run, after, &client, arguments)
    } else {
        start_detached(after, &client, arguments)
    };
    set_off.inspect_err(|_| {
        // Nothing would ever decide it.
        let _ = fs::remove_file(Decision::Armed.path(state, run));
    })
}

/// A root of Nix' garbage collector: the switch takes the old system out of /run/current-system, and it may be in no
/// profile.
pub(crate) fn keep_from_collection(root: &Path, previous: &SystemPath) -> anyhow::Result<()> {
    let mut command = Command::new("nix-store");
    command
        .args(["--realise", previous.as_str(), "--add-root"])
        .arg(root)
        .arg("--indirect");
    let output = command.output().context("can't run nix-store")?;
    if !output.status.success() {
        bail!(
            "can't keep {previous} from Nix' garbage collection: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn timer_name(run: RunId) -> String {
    format!("bento-rollback-{run}")
}

fn set_timer(
    run: RunId,
    after: Duration,
    client: &Path,
    arguments: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    let mut command = Command::new("systemd-run");
    command
        .args(["--quiet", "--collect", "--no-ask-password"])
        .arg(format!("--unit={}", timer_name(run)))
        .arg("--description=Bring the old system back: nothing has confirmed the new one")
        // A monotonic time: it stands still while the machine is suspended, and no change of the clock matters.
        .arg(format!("--on-active={}s", after.as_secs()))
        .arg("--timer-property=AccuracySec=1s");
    for variable in ["PATH", "NIX_PATH", "LOCALE_ARCHIVE", "NIX_REMOTE"]
        .iter()
        .chain(&NIX_PLACES)
    {
        if let Some(value) = bento_nix::variable(variable) {
            let value = value.to_string_lossy();
            command.arg(format!("--setenv={variable}={value}"));
        }
    }
    command.arg(client).arg("rollback").args(arguments);
    let output = command.output().context("can't run systemd-run")?;
    if !output.status.success() {
        bail!(
            "can't set the timer that would bring the old system back: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Environment of a Nix that isn't at its usual place.
const NIX_PLACES: [&str; 4] = [
    "NIX_STORE_DIR",
    "NIX_STATE_DIR",
    "NIX_LOG_DIR",
    "NIX_CONF_DIR",
];

fn start_detached(
    after: Duration,
    client: &Path,
    arguments: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    let mut command = Command::new(client);
    command
        .arg("rollback")
        .args(arguments)
        .args(["--after", &after.as_secs().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .spawn()
        .context("can't start the process that would bring the old system back")?;
    Ok(())
}

/// In the process that stands in for a timer: waits until the time is over, or nothing is armed any more. A signal to
/// those who started it doesn't reach it.
pub(crate) fn wait_detached(state: &State, run: RunId, time: Duration) {
    // It fails only if this process leads a session already.
    let _ = rustix::process::setsid();
    // A monotonic time, which stands still while the machine is suspended.
    let begun = Instant::now();
    while begun.elapsed() < time && matches!(decision(state, run), Ok(Some(Decision::Armed))) {
        thread::sleep(PAUSE);
    }
}

/// Removes all that was armed for a run.
pub(crate) fn disarm(machine: &Machine, state: &State, run: RunId) -> anyhow::Result<()> {
    for decision in Decision::ALL {
        let path = decision.path(state, run);
        atomic_file::remove(&path)?;
    }
    if machine.has_systemd() {
        // The service isn't stopped with it: it may be what calls this.
        let timer = format!("{}.timer", timer_name(run));
        // One that has elapsed is gone already.
        let _ = Command::new("systemctl")
            .args(["stop", "--quiet", &timer])
            .stderr(Stdio::null())
            .status();
    }
    atomic_file::remove(&state.reserve())?;
    atomic_file::remove(&state.previous())
}

/// The runs for which something is armed or undone, in no order.
pub(crate) fn all(state: &State) -> Vec<(RunId, Decision)> {
    let entries = fs::read_dir(state.armed_folder()).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| {
            let (run, word) = name.split_once('.')?;
            let decision = Decision::ALL
                .into_iter()
                .find(|decision| decision.word() == word)?;
            Some((run.parse().ok()?, decision))
        })
        .collect()
}

/// Name under which a running update keeps the machine from going down.
pub(crate) const INHIBITOR: &str = "bento";

/// Keeps the machine from sleeping and from being shut down, as long as this lives.
#[derive(Debug)]
pub(crate) struct Inhibitor {
    child: Child,
}

impl Inhibitor {
    /// Asks logind; none where there is none.
    pub(crate) fn new() -> Option<Self> {
        let child = Command::new("systemd-inhibit")
            .args([
                "--what=sleep:shutdown",
                &format!("--who={INHIBITOR}"),
                "--why=The system is being updated; it takes some minutes at most",
                "--mode=block",
                // It ends when the pipe closes, which it does with the client, however that ends.
                "cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.ok().map(|child| Inhibitor { child })
    }
}

impl Drop for Inhibitor {
    fn drop(&mut self) {
        // The pipe ends `cat`. systemd-inhibit itself may still ask for the lock, of a logind that doesn't answer.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path()).unwrap();
        state.prepare().unwrap();
        (folder, state)
    }

    #[test]
    fn exactly_one_decides() {
        let (_folder, state) = state();
        let run = RunId::now();
        assert!(!decide(&state, run, Decision::Committed).unwrap());
        for _ in 0..20 {
            let run = RunId::now();
            atomic_file::write(&Decision::Armed.path(&state, run), b"", 0o600).unwrap();
            assert_eq!(decision(&state, run).unwrap(), Some(Decision::Armed));
            let wins: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = [Decision::Committed, Decision::RollingBack]
                    .into_iter()
                    .cycle()
                    .take(8)
                    .map(|decision| {
                        let state = &state;
                        scope.spawn(move || decide(state, run, decision).unwrap())
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| usize::from(thread.join().unwrap()))
                    .sum()
            });
            assert_eq!(wins, 1);
            assert_ne!(decision(&state, run).unwrap(), Some(Decision::Armed));
        }
        assert_eq!(all(&state).len(), 20);
    }

    #[test]
    fn a_rollback_that_is_done_differs_from_one_that_was_begun() {
        let (_folder, state) = state();
        let run = RunId::now();
        atomic_file::write(&Decision::Armed.path(&state, run), b"", 0o600).unwrap();
        decide(&state, run, Decision::RolledBack).unwrap();
        assert_eq!(decision(&state, run).unwrap(), Some(Decision::Armed));
        assert!(decide(&state, run, Decision::RollingBack).unwrap());
        decide(&state, run, Decision::RolledBack).unwrap();
        assert_eq!(decision(&state, run).unwrap(), Some(Decision::RolledBack));
    }
}
