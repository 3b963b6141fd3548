//! Waits for many file descriptors at once, and says which has something to tell.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// How many events are taken at once.
const EVENTS: usize = 256;

/// What is waited for.
#[derive(Debug)]
pub(super) struct Poll(OwnedFd);

/// What a file descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Somebody outside of the thread wants something.
    Wake,
    /// Somebody connects.
    Listener,
    /// A connection that has no sshd yet says something.
    PendingConnection(u64),
    /// An sshd logs something.
    Session(u64),
}

impl Source {
    /// Guests and sessions are numbered each on their own.
    fn data(self) -> epoll::EventData {
        let (number, kind) = match self {
            Source::Wake => (0, 0),
            Source::Listener => (0, 1),
            Source::PendingConnection(number) => (number, 2),
            Source::Session(number) => (number, 3),
        };
        epoll::EventData::new_u64(number << 2 | kind)
    }

    fn of(data: epoll::EventData) -> Self {
        let number = data.u64() >> 2;
        match data.u64() & 3 {
            0 => Source::Wake,
            1 => Source::Listener,
            2 => Source::PendingConnection(number),
            _ => Source::Session(number),
        }
    }
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Poll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Waits for something to read, too.
    pub(super) fn add(&self, what: impl AsFd, source: Source) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            what,
            source.data(),
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits for something new to read or an end, too, and tells of each once: what was told of and stays unread would
    /// wake us for ever.
    pub(super) fn add_once(&self, what: impl AsFd, source: Source) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        Ok(epoll::add(&self.0, what, source.data(), flags)?)
    }

    /// Waits for it no longer.
    pub(super) fn remove(&self, what: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, what)?)
    }

    /// Waits for something to happen, for this long at most: where, and whether that is an end. A signal may cut it
    /// short.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(Source, bool)>> {
        let mut happened = Vec::with_capacity(EVENTS);
        let timeout = timeout.map(timespec);
        match epoll::wait(&self.0, spare_capacity(&mut happened), timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            result => drop(result?),
        }
        let gone = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let told = |event: epoll::Event| {
            let flags = event.flags;
            (Source::of(event.data), flags.intersects(gone))
        };
        Ok(happened.into_iter().map(told).collect())
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up: a wake before the time would find nothing to do and wait again, for nothing, over and over.
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let milliseconds = nanoseconds.saturating_add(999_999) / 1_000_000;
    Timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    }
}
