use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reason::Reason;

/// The numbers of open sessions, and of sessions since the start of the appliance, without its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounters {
    /// Connections with an sshd, before the login.
    pub unauthenticated: u64,
    /// Open sessions of machines.
    pub authenticated: u64,
    /// Connections that got an sshd, in all.
    pub accepted: u64,
    /// Logins of machines, in all.
    pub logins: u64,
    /// Sessions that the appliance ended, by reason.
    pub ended: BTreeMap<String, u64>,
}

impl Default for SessionCounters {
    fn default() -> Self {
        // Reasons without a session are included: a missing number could be a lost one.
        let never = |reason: &Reason| (reason.label().to_owned(), 0);
        SessionCounters {
            unauthenticated: 0,
            authenticated: 0,
            accepted: 0,
            logins: 0,
            ended: Reason::ALL.iter().map(never).collect(),
        }
    }
}

impl SessionCounters {
    /// Records that the appliance ends a session.
    pub(super) fn end(&mut self, reason: Reason) {
        *self.ended.entry(reason.label().to_owned()).or_default() += 1;
    }
}
