use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::command::Sshd;
use super::counters::SessionCounters;
use super::limits::Limits;
use super::listener::Acceptor;
use super::session_table::SessionTable;

/// How many connections the kernel keeps for us, so that a fleet that wakes at once waits and isn't dropped. The
/// kernel takes less if `net.core.somaxconn` says so.
const BACKLOG: i32 = 4096;

/// What happens to sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A machine has authenticated and starts an SFTP session. Not said of one that is refused.
    Authenticated {
        /// The session's number.
        session: u64,
        /// The machine's account, as the kernel tells it.
        uid: u32,
    },
    /// The wire of a session is cut, and its sshd has gone.
    Ended {
        /// The session's number.
        session: u64,
        /// Whose it was, if it came that far.
        uid: Option<u32>,
    },
    /// Nothing is accepted any more: [`Sessions::close`] was called and the last session has ended, or the acceptor
    /// failed, which is logged then.
    Stopped,
}

/// The sessions, and the thread that accepts and watches them. A cheap handle.
#[derive(Debug, Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

/// What the thread and the handles share.
#[derive(Debug)]
pub(super) struct Shared {
    registry: Mutex<SessionTable>,
    closed: AtomicBool,
    pub(super) wake: OwnedFd,
}

impl Shared {
    pub(super) fn registry(&self) -> MutexGuard<'_, SessionTable> {
        // No method of the registry leaves it half changed.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Sessions {
    /// Nobody's, and there will never be any.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        let wake = eventfd(0, EventfdFlags::CLOEXEC).expect("there are descriptors left");
        let shared = Arc::new(Shared {
            registry: Mutex::new(SessionTable::new(Limits::default())),
            closed: AtomicBool::new(true),
            wake,
        });
        Sessions { shared }
    }

    /// Starts to accept connections. No account may have a session until [`Self::allow`] says so.
    ///
    /// `report` is called for every event, in the acceptor's thread, and mustn't block. The process must reap its
    /// children, see [`super::reap`]. Its limit of open files is raised as far as it may be.
    ///
    /// # Errors
    /// When the thread can't be started, or when this thread blocks signals: sshd would inherit that, and then
    /// notice neither the end of its children nor its own deadlines.
    pub fn open(
        listener: TcpListener,
        sshd: Sshd,
        limits: Limits,
        report: impl Fn(Event) + Send + 'static,
    ) -> Result<Self> {
        let blocked = SigSet::thread_get_mask().context("can't read the mask of signals")?;
        let blocked: Vec<_> = Signal::iterator()
            .filter(|signal| blocked.contains(*signal))
            .collect();
        ensure!(
            blocked.is_empty(),
            "sessions can't be started while signals are blocked: {blocked:?}"
        );
        let limits = within_open_files(limits);
        let shared = Arc::new(Shared {
            registry: Mutex::new(SessionTable::new(limits)),
            closed: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let acceptor = Acceptor::new(listener, sshd, shared.clone(), report)?;
        thread::Builder::new()
            .name("acceptor".into())
            .spawn(move || acceptor.run())?;
        Ok(Sessions { shared })
    }

    /// The number that the next session will have. A session with that number or a later one that finds its chroot
    /// finds what is current now, or newer.
    pub fn next_session(&self) -> u64 {
        self.shared.registry().next()
    }

    /// The oldest session that is this account's, or that isn't known to be another's.
    pub fn oldest_session_of(&self, uid: u32) -> Option<u64> {
        self.shared.registry().oldest_of(uid)
    }

    /// How many sessions there are, and were since this was opened.
    pub fn tally(&self) -> SessionCounters {
        self.shared.registry().tally()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.shared.registry().is_empty()
    }

    /// Only these accounts may have sessions from now on. A session of another ends at once, or as soon as it turns
    /// out to be another's. Call it after [`super::passwd::write`].
    pub fn allow(&self, uids: BTreeSet<u32>) {
        self.change(|registry| registry.allow(uids));
    }

    /// Ends every session of this account that has begun, also one that is still authenticating: for an account
    /// whose keys have changed. Call it after [`super::passwd::write`].
    pub fn end_account(&self, uid: u32) {
        self.change(|registry| registry.end_account(uid));
    }

    /// Ends the sessions of this account that are open, because its machine has left too much in its inbox. It may
    /// come again at once.
    pub fn interrupt(&self, uid: u32) {
        self.change(|registry| registry.interrupt(uid));
    }

    /// Ends every session.
    pub fn end_all(&self) {
        self.change(SessionTable::end_all);
    }

    /// Accepts nothing any more, and sends away who has no session yet. Sessions go on.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.wake();
    }

    fn change(&self, change: impl FnOnce(&mut SessionTable)) {
        change(&mut self.shared.registry());
        self.wake();
    }

    fn wake(&self) {
        // The only failure is that the counter is full, and then it wakes the thread anyway.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
    }
}

/// Listens for machines, with a long queue. Address `[::]` stands for IPv4, too.
///
/// # Errors
/// When the address is taken or isn't this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // The standard library's queue is short; to listen again only changes its length.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Takes as many open files as this process may have, and leaves most of them to sessions and to the rest.
fn within_open_files(limits: Limits) -> Limits {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it can't be raised, accepting waits whenever there are none left.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    let quarter = maximum.map_or(usize::MAX, |maximum| {
        usize::try_from(maximum / 4).unwrap_or(usize::MAX)
    });
    Limits {
        guests: limits.guests.min(quarter).max(1),
        ..limits
    }
}
