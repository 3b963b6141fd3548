//! Why sessions are ended.

use std::fmt;

/// Why a session is ended by the appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It didn't authenticate in time.
    Grace,
    /// It was the oldest that hadn't authenticated, and another connection waited for a slot.
    Room,
    /// It lasted too long.
    Length,
    /// Its machine has enough others.
    Number,
    /// Its account isn't one of those that may have sessions.
    Account,
    /// Its account's keys were changed after it began.
    Keys,
    /// Its machine has left too much in its inbox.
    Inbox,
    /// All sessions are ended.
    Stop,
}

impl Reason {
    pub(super) const ALL: [Reason; 8] = [
        Reason::Grace,
        Reason::Room,
        Reason::Length,
        Reason::Number,
        Reason::Account,
        Reason::Keys,
        Reason::Inbox,
        Reason::Stop,
    ];

    /// Its label in the metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Reason::Grace => "grace",
            Reason::Room => "room",
            Reason::Length => "length",
            Reason::Number => "number",
            Reason::Account => "account",
            Reason::Keys => "keys",
            Reason::Inbox => "inbox",
            Reason::Stop => "stop",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Reason::Grace => "it took too long to authenticate",
            Reason::Room => {
                "it hadn't authenticated yet, and another connection waited for its slot"
            }
            Reason::Length => "it lasted too long",
            Reason::Number => "its machine has too many sessions",
            Reason::Account => "its machine isn't enrolled any more",
            Reason::Keys => "its machine's keys have changed",
            Reason::Inbox => "its machine has left too many files",
            Reason::Stop => "the appliance stops",
        })
    }
}
