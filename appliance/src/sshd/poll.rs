//! One wait for many file descriptors.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// The most events of one wait.
const EVENTS: usize = 256;

/// The polled file descriptors.
#[derive(Debug)]
pub(super) struct Poll(OwnedFd);

/// The meaning of a file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Another thread wakes this one.
    Wake,
    /// A connection waits to be accepted.
    Listener,
    /// A session's sshd has logged a line, or has ended.
    Session(u64),
}

impl Source {
    fn data(self) -> epoll::EventData {
        let (number, kind) = match self {
            Source::Wake => (0, 0),
            Source::Listener => (0, 1),
            Source::Session(number) => (number, 2),
        };
        epoll::EventData::new_u64(number << 2 | kind)
    }

    fn of(data: epoll::EventData) -> Self {
        let number = data.u64() >> 2;
        match data.u64() & 3 {
            0 => Source::Wake,
            1 => Source::Listener,
            _ => Source::Session(number),
        }
    }
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Poll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Adds a file descriptor: [`Self::wait`] waits until it is readable, too.
    pub(super) fn add(&self, what: impl AsFd, source: Source) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            what,
            source.data(),
            epoll::EventFlags::IN,
        )?)
    }

    /// Removes a file descriptor.
    pub(super) fn remove(&self, what: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, what)?)
    }

    /// Waits until one is readable, for this long at most. A signal may end the wait early.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Source>> {
        let mut events = Vec::with_capacity(EVENTS);
        let timeout = timeout.map(timespec);
        match epoll::wait(&self.0, spare_capacity(&mut events), timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            result => drop(result?),
        }
        Ok(events
            .into_iter()
            .map(|event: epoll::Event| Source::of(event.data))
            .collect())
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up: a wake before the time would find nothing to do, and wait again, over and over.
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let milliseconds = nanoseconds.saturating_add(999_999) / 1_000_000;
    Timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    }
}
