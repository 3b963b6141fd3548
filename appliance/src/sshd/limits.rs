//! The limits of sessions: their number, and their time.

use std::time::Duration;

/// The limits of sessions.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Slots: connections with an sshd, before the login. Each costs about 1 MB and 25 ms of a CPU.
    pub unauthenticated: usize,
    /// Pending connections; further ones wait in the kernel's queue. Each costs one file descriptor.
    pub pending: usize,
    /// The time for the login of a connection with a slot.
    pub grace: Duration,
    /// The time after which its slot goes to a pending connection, if no slot is free: several round trips through Tor.
    pub evict_after: Duration,
    /// Sessions of one machine at a time.
    pub per_account: usize,
    /// The longest session after the login.
    pub session: Duration,
    /// The time for an sshd to notice that its connection is cut, before it is killed.
    pub hang_up: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits {
            unauthenticated: 100,
            pending: 1000,
            grace: Duration::from_secs(20),
            evict_after: Duration::from_secs(6),
            per_account: 4,
            session: Duration::from_secs(60 * 60),
            hang_up: Duration::from_secs(1),
        }
    }
}
