use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::command::Sshd;
use super::counters::SessionCounters;
use super::event::SessionEvent;
use super::limits::SessionLimits;
use super::listener::Listener;
use super::session_table::SessionTable;
use super::shared::SharedTable;

/// How many connections the kernel keeps for us, so that a fleet that wakes at once waits and isn't dropped. The
/// kernel takes less if `net.core.somaxconn` says so.
const BACKLOG: i32 = 4096;

/// A cheap handle to the sessions and to the thread that accepts and watches them.
#[derive(Debug, Clone)]
pub struct Sessions {
    shared: Arc<SharedTable>,
}

impl Sessions {
    /// An empty session table without a listener.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        let shared = SharedTable::new(SessionTable::new(SessionLimits::default()));
        Sessions {
            shared: Arc::new(shared.expect("there are descriptors left")),
        }
    }

    /// Starts to accept connections. No account may have a session until [`Self::allow`] says so.
    ///
    /// `report` is called for every event, in the listener's thread, and mustn't block. The process must reap its
    /// children, see [`super::reap`]. Its limit of open files is raised as far as it may be.
    ///
    /// # Errors
    /// When the thread can't be started, or when this thread blocks signals: sshd would inherit that, and then
    /// notice neither the end of its children nor its own deadlines.
    pub fn open(
        listener: TcpListener,
        sshd: Sshd,
        limits: SessionLimits,
        report: impl Fn(SessionEvent) + Send + 'static,
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
        let shared = Arc::new(SharedTable::new(SessionTable::new(limits))?);
        let listener = Listener::new(listener, sshd, Arc::clone(&shared), report)?;
        thread::Builder::new()
            .name("listener".into())
            .spawn(move || listener.run())?;
        Ok(Sessions { shared })
    }

    /// The number that the next session will have. A session with that number or a later one that finds its chroot
    /// finds what is current now, or newer.
    pub fn next_session(&self) -> u64 {
        self.shared.table().next()
    }

    /// The oldest session of this account, or one that hasn't authenticated yet and may turn out to be its.
    pub fn oldest_session_of(&self, uid: u32) -> Option<u64> {
        self.shared.table().oldest_of(uid)
    }

    /// The numbers of open sessions, and of all since the start.
    pub fn counters(&self) -> SessionCounters {
        self.shared.table().counters()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.shared.table().is_empty()
    }

    /// Allows sessions to these accounts only. A session of another account ends at once, or as soon as it
    /// authenticates. Call it after [`super::passwd::write`].
    pub fn allow(&self, uids: BTreeSet<u32>) {
        self.change(|table| table.allow(uids));
    }

    /// Ends every session of this account that has begun, also one that is still authenticating: for an account
    /// whose keys have changed. Call it after [`super::passwd::write`].
    pub fn end_account(&self, uid: u32) {
        self.change(|table| table.end_account(uid));
    }

    /// Ends the sessions of this account that are open, because its machine has left too much in its inbox. It may
    /// come again at once.
    pub fn interrupt(&self, uid: u32) {
        self.change(|table| table.interrupt(uid));
    }

    /// Ends every session.
    pub fn end_all(&self) {
        self.change(SessionTable::end_all);
    }

    /// Accepts nothing any more, and closes all pending connections. Sessions go on.
    pub fn close(&self) {
        self.shared.close();
    }

    fn change(&self, change: impl FnOnce(&mut SessionTable)) {
        change(&mut self.shared.table());
        self.shared.wake();
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
fn within_open_files(limits: SessionLimits) -> SessionLimits {
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
    SessionLimits {
        pending: limits.pending.min(quarter).max(1),
        ..limits
    }
}
