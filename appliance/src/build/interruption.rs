//! Ends what was started when somebody wants to stop.

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

/// What ends us, unless whoever started us wants it ignored.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
/// How long a program may tidy up after TERM before it is killed. Nix ends its builders meanwhile.
const TIDY: Duration = Duration::from_secs(5);

/// Listens, as long as it lives, to whoever wants to stop: Ctrl-C, TERM, or a terminal that was closed. Afterwards they
/// end this program again.
#[derive(Debug)]
pub(crate) struct Interruption {
    children: Arc<Children>,
    handle: Handle,
    listener: Option<JoinHandle<()>>,
}

/// The programs that run. They stay in our process group, so that one that asks for a passphrase can: a group in the
/// background is stopped when it reads from the terminal.
#[derive(Debug, Default)]
struct Children {
    is_requested: AtomicBool,
    /// In the order in which they came. A process id may be somebody else's soon; what is open here never is.
    running: Mutex<BTreeMap<usize, OwnedFd>>,
    count: AtomicUsize,
}

impl Interruption {
    /// Begins to listen.
    ///
    /// # Errors
    /// When that isn't possible.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let mut signals = Signals::new(handled_signals()).context("can't listen to signals")?;
        let handle = signals.handle();
        let children = Arc::new(Children::default());
        let heard = Arc::clone(&children);
        let listener = thread::spawn(move || {
            for _ in signals.forever() {
                heard.end();
            }
        });
        let default_action = default_action().context("can't listen to signals")?;
        default_action.store(false, Ordering::SeqCst);
        Ok(Interruption {
            children,
            handle,
            listener: Some(listener),
        })
    }

    /// Whether somebody wants to stop.
    pub(crate) fn is_requested(&self) -> bool {
        self.children.is_requested.load(Ordering::SeqCst)
    }

    /// Stops, as if somebody wanted to.
    pub(crate) fn request(&self) {
        self.children.end();
    }

    /// Runs a program to its end and passes each line that it writes to `line`; ends it when somebody wants to stop.
    ///
    /// # Errors
    /// When it can't be run.
    pub(crate) fn run(
        &self,
        command: Command,
        line: &mut dyn FnMut(&str),
    ) -> anyhow::Result<ExitStatus> {
        let mut noted = None;
        let status = process::run_noted(command, line, &mut |child| {
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
            // It panics nowhere, and nothing hangs on it any more.
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

    /// Adds one that hasn't been reaped; gives its number.
    fn add(&self, child: Pid) -> anyhow::Result<usize> {
        let opened = pidfd_open(child, PidfdFlags::empty()).context("can't watch a program")?;
        let mut running = self.lock();
        // Whoever wanted to stop before this was there hasn't reached it.
        if self.is_requested.load(Ordering::SeqCst) {
            send(&opened, Signal::TERM);
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        running.insert(number, opened);
        Ok(number)
    }

    /// Ends all of them: with TERM, and those that don't heed it, or when somebody asks again, with KILL.
    fn end(self: &Arc<Self>) {
        if self.is_requested.swap(true, Ordering::SeqCst) {
            return self.send_all(Signal::KILL);
        }
        self.send_all(Signal::TERM);
        let children = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(TIDY);
            children.send_all(Signal::KILL);
        });
    }

    fn send_all(&self, signal: Signal) {
        self.lock().values().for_each(|child| send(child, signal));
    }
}

fn send(child: &OwnedFd, signal: Signal) {
    // It fails when the program has ended meanwhile.
    let _ = pidfd_send_signal(child, signal);
}

/// Those that weren't ignored when we began: `nohup` ignores HUP, and a shell script INT for what runs behind it.
fn handled_signals() -> &'static [i32] {
    static HANDLED: OnceLock<Vec<i32>> = OnceLock::new();
    HANDLED.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let is_heeded = |signal: &i32| ignored & (1 << (signal - 1)) == 0;
        SIGNALS.into_iter().filter(is_heeded).collect()
    })
}

/// The signals that a process ignores, as proc(5) tells them: a bit each, that of signal 1 the lowest.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// Whether signals do what they do to any program. What is registered can't be taken back, so it is done once.
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
