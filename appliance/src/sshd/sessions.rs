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

/// The length of the kernel's queue of connections, so that a fleet that wakes at once waits and isn't dropped. The
/// kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A cheap handle to the sessions and to the listener's thread.
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

    /// Starts to accept connections. No account may have a session before [`Self::allow`].
    ///
    /// `report` is called for every event, in the listener's thread, and mustn't block. The process must reap its
    /// children, see [`super::reap`]. Its limit of open files is raised to the maximum.
    ///
    /// # Errors
    /// When the thread can't be started, or when this thread blocks signals: sshd would inherit that, and notice neither
    /// the end of its children nor its own deadlines.
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

    /// The number of the next session. A session with that number or a later one gets the current chroot, or a newer one.
    pub fn next_session(&self) -> u64 {
        self.shared.table().next()
    }

    /// The oldest session that is, or may turn out to be, this account's.
    pub fn oldest_session_of(&self, uid: u32) -> Option<u64> {
        self.shared.table().oldest_of(uid)
    }

    /// The numbers of open sessions, and of sessions since the start.
    pub fn counters(&self) -> SessionCounters {
        self.shared.table().counters()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.shared.table().is_empty()
    }

    /// Allows sessions to these accounts only. A session of another account ends at once, or at its login. Call it after
    /// [`super::passwd::write`].
    pub fn allow(&self, uids: BTreeSet<u32>) {
        self.change(|table| table.allow(uids));
    }

    /// Ends every session of this account that has begun, also before its login: for an account with changed keys. Call it
    /// after [`super::passwd::write`].
    pub fn end_account(&self, uid: u32) {
        self.change(|table| table.end_account(uid));
    }

    /// Ends the open sessions of this account, because its machine has left too many files. It may connect again at once.
    pub fn interrupt(&self, uid: u32) {
        self.change(|table| table.interrupt(uid));
    }

    /// Ends every session.
    pub fn end_all(&self) {
        self.change(SessionTable::end_all);
    }

    /// Stops to accept, and closes all pending connections. Sessions go on.
    pub fn close(&self) {
        self.shared.close();
    }

    fn change(&self, change: impl FnOnce(&mut SessionTable)) {
        change(&mut self.shared.table());
        self.shared.wake();
    }
}

/// Listens for machines, with a long queue. The address `[::]` includes IPv4.
///
/// # Errors
/// When the address is in use or isn't this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // The queue of the standard library is short; listening again only changes its length.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Raises the limit of open files, and limits pending connections to a quarter of it.
fn within_open_files(limits: SessionLimits) -> SessionLimits {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it can't be raised, accepting waits whenever no descriptor is left.
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
