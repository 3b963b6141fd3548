//! How much the sessions may take, at a time and in time.

use std::time::Duration;

/// How much the sessions may take.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Slots: connections that have an sshd and haven't authenticated. Each costs about 1 MB and 25 ms of a CPU.
    pub unauthenticated: usize,
    /// Connections that have no sshd yet; further ones wait in the kernel's queue. Each costs one file descriptor.
    pub pending: usize,
    /// How long a connection that has a slot may take to authenticate.
    pub grace: Duration,
    /// After how long its slot goes to a pending connection, if no slot is free. Several round trips by way of Tor.
    pub evict_after: Duration,
    /// Sessions of one machine at a time.
    pub per_account: usize,
    /// How long a session may last once it is authenticated.
    pub session: Duration,
    /// How long an sshd may take to notice that its connection is cut, before it is killed.
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
