//! The state that the listener's thread shares with the handles to the sessions.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::session_table::SessionTable;

/// The session table, and a way to wake the listener's thread.
#[derive(Debug)]
pub(super) struct SharedTable {
    table: Mutex<SessionTable>,
    closed: AtomicBool,
    /// Readable after [`Self::wake`].
    pub(super) waker: OwnedFd,
}

impl SharedTable {
    pub(super) fn new(table: SessionTable) -> io::Result<Self> {
        Ok(SharedTable {
            table: Mutex::new(table),
            closed: AtomicBool::new(false),
            waker: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, SessionTable> {
        // No method of the table leaves it half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the listener accept no further connection.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn wake(&self) {
        // The only failure is that the counter is full, and then it wakes the thread anyway.
        let _ = rustix::io::write(&self.waker, &1_u64.to_ne_bytes());
    }

    /// Clears all wakes so far.
    pub(super) fn clear_wakes(&self) {
        let _ = rustix::io::read(&self.waker, &mut [0; 8]);
    }
}
