//! Ends running programs on Ctrl-C, TERM or HUP.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use bento_nix::process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// The signals that interrupt, unless they are ignored at the start.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
/// The time for a program to exit after TERM, before it is killed. Nix ends its builders in it.
const EXIT_GRACE: Duration = Duration::from_secs(15);

/// Handles Ctrl-C, TERM and a closed terminal as long as it lives. Afterwards these signals end this program again.
#[derive(Debug)]
pub(crate) struct Interruption {
    children: Arc<Children>,
    handle: Handle,
    listener: Option<JoinHandle<()>>,
}

/// The running programs. They stay in our process group, so that they can ask for a passphrase: a background group is
/// stopped when it reads from the terminal.
#[derive(Debug, Default)]
struct Children {
    is_requested: AtomicBool,
    /// In the order of their start. A process id can be reused; a pidfd stays valid.
    running: Mutex<BTreeMap<usize, OwnedFd>>,
    count: AtomicUsize,
}

impl Interruption {
    /// Starts to handle the signals.
    ///
    /// # Errors
    /// When that isn't possible.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let mut signals = Signals::new(handled_signals()).context("can't handle signals")?;
        let handle = signals.handle();
        let children = Arc::new(Children::default());
        let heard = Arc::clone(&children);
        let listener = thread::spawn(move || {
            for _ in signals.forever() {
                heard.end();
            }
        });
        let default_action = default_action().context("can't handle signals")?;
        default_action.store(false, Ordering::SeqCst);
        Ok(Interruption {
            children,
            handle,
            listener: Some(listener),
        })
    }

    /// Whether an interruption was requested.
    pub(crate) fn is_requested(&self) -> bool {
        self.children.is_requested.load(Ordering::SeqCst)
    }

    /// Interrupts, as a signal would.
    pub(crate) fn request(&self) {
        self.children.end();
    }

    /// Runs a program to its end, and passes each line of its output to `line`; an interruption ends it.
    ///
    /// # Errors
    /// When it can't be run.
    pub(crate) fn run(
        &self,
        command: Command,
        line: &mut dyn FnMut(&str),
    ) -> anyhow::Result<ExitStatus> {
        let mut noted = None;
        let status = process::run_with_pid(command, line, &mut |child| {
            noted = Some(self.children.add(child)?);
            Ok(())
        });
        if let Some(number) = noted {
            self.children.lock().remove(&number);
        }
        status
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(listener) = self.listener.take() {
            // The thread doesn't panic, and nothing depends on it any more.
            let _ = listener.join();
        }
        if let Ok(default_action) = default_action() {
            default_action.store(true, Ordering::SeqCst);
        }
    }
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, OwnedFd>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a program that hasn't been reaped; returns its number.
    fn add(&self, child: Pid) -> anyhow::Result<usize> {
        let opened = pidfd_open(child, PidfdFlags::empty()).context("can't watch a program")?;
        let mut running = self.lock();
        // An earlier interruption didn't reach this program.
        if self.is_requested.load(Ordering::SeqCst) {
            send(&opened, Signal::TERM);
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        running.insert(number, opened);
        Ok(number)
    }

    /// Ends all programs: with TERM, and after a grace time, or at a second request, with KILL.
    fn end(self: &Arc<Self>) {
        if self.is_requested.swap(true, Ordering::SeqCst) {
            return self.send_all(Signal::KILL);
        }
        self.send_all(Signal::TERM);
        let children = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(EXIT_GRACE);
            children.send_all(Signal::KILL);
        });
    }

    fn send_all(&self, signal: Signal) {
        self.lock().values().for_each(|child| send(child, signal));
    }
}

fn send(child: &OwnedFd, signal: Signal) {
    // It fails if the program has already ended.
    let _ = pidfd_send_signal(child, signal);
}

/// The signals that weren't ignored at the start: `nohup` ignores HUP, and a shell script INT for background programs.
fn handled_signals() -> &'static [i32] {
    static HANDLED: OnceLock<Vec<i32>> = OnceLock::new();
    HANDLED.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let is_heeded = |signal: &i32| ignored & (1 << (signal - 1)) == 0;
        SIGNALS.into_iter().filter(is_heeded).collect()
    })
}

/// The ignored signals from a status file of proc(5): one bit each, signal 1 is the lowest.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// The flag for the signals' default action. A registration can't be undone, so it happens once.
fn default_action() -> io::Result<Arc<AtomicBool>> {
    static DEFAULT_ACTION: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(default_action) = DEFAULT_ACTION.get() {
        return Ok(Arc::clone(default_action));
    }
    let default_action = Arc::new(AtomicBool::new(false));
    for &signal in handled_signals() {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&default_action))?;
    }
    Ok(Arc::clone(DEFAULT_ACTION.get_or_init(|| default_action)))
}
