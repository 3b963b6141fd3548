/// An event of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// A machine has logged in. Not sent for a machine that is refused.
    Authenticated {
        /// The session's number.
        session: u64,
        /// The machine's account, from the kernel.
        uid: u32,
    },
    /// The connection of a session is cut, and its sshd has ended.
    Ended {
        /// The session's number.
        session: u64,
        /// The machine's account, if it has authenticated.
        uid: Option<u32>,
    },
    /// Nothing is accepted any more: [`Sessions::close`](super::Sessions::close) was called and the last session has
    /// ended, or the listener failed and logged why.
    Stopped,
}
