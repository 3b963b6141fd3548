//! How much the sessions may take, at a time and in time.

use std::time::Duration;

/// How much the sessions may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections that have an sshd and haven't proved yet whose they are. Each costs about 1 MB and 25 ms of a CPU.
    pub unauthenticated: usize,
    /// How many of them are in their first moments at a time, before it is known how fast they go: key exchanges share
    /// the CPU, and none would be in time if all ran at once.
    pub newcomers: usize,
    /// Connections that have no sshd yet; further ones wait in the kernel's queue. Each costs one file descriptor.
    pub guests: usize,
    /// How long a connection may take to introduce itself, and from then on to authenticate.
    pub grace: Duration,
    /// After how long a connection that says nothing at all may have an sshd: there are clients, such as
    /// `ssh-keyscan`, that wait for the server to speak first.
    pub patience: Duration,
    /// After how long a client that owes an answer counts no longer as a newcomer: while we wait for it, it takes no
    /// CPU from others.
    pub pause: Duration,
    /// After how long its slot is given to somebody who waits for one. Several round trips by way of Tor, or what a
    /// busy machine takes to compute its answer, so that who makes progress keeps its slot.
    pub stall: Duration,
    /// Sessions of one machine at a time.
    pub per_account: usize,
    /// How long a session may last once it is authenticated.
    pub session: Duration,
    /// How long an sshd may take to notice that its wire is cut, before it is killed.
    pub hang_up: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            unauthenticated: 100,
            newcomers: 32,
            guests: 1000,
            grace: Duration::from_secs(20),
            patience: Duration::from_secs(1),
            pause: Duration::from_secs(1),
            stall: Duration::from_secs(6),
            per_account: 4,
            session: Duration::from_secs(60 * 60),
            hang_up: Duration::from_secs(1),
        }
    }
}
