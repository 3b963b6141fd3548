//! The reasons for which the appliance ends sessions.

use std::fmt;

/// A reason for which the appliance ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No login in time.
    Grace,
    /// The oldest session without a login, while another connection waited for a slot.
    Room,
    /// Too long a session.
    Length,
    /// Too many sessions of its machine.
    Number,
    /// An account that isn't allowed.
    Account,
    /// New keys of its account since it began.
    Keys,
    /// Too many files in the inbox of its machine.
    Inbox,
    /// The stop of the appliance.
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
