use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reason::Reason;

/// How many sessions there are, and were since the appliance started; its own aren't counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounters {
    /// Connections that have an sshd and haven't proved yet whose they are.
    pub unauthenticated: u64,
    /// Open sessions of machines.
    pub authenticated: u64,
    /// Connections that got an sshd, in all.
    pub accepted: u64,
    /// Those of which became a session of a machine.
    pub logins: u64,
    /// Those that the appliance ended, by the reason.
    pub ended: BTreeMap<String, u64>,
}

impl Default for SessionCounters {
    fn default() -> Self {
        // What never happened is counted, too: nobody can tell a missing number from a lost one.
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
    /// The appliance ends a session.
    pub(super) fn end(&mut self, reason: Reason) {
        *self.ended.entry(reason.label().to_owned()).or_default() += 1;
    }
}
