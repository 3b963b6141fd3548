use std::time::Duration;

use serde::Deserialize;

use super::{Interval, Limit};

/// `operation`: when a new system is activated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// At once.
    #[default]
    Switch,
    /// At the next boot.
    Boot,
}

/// `[rollback]`: the rollback timer, for a new system that isn't confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackSettings {
    /// Time from just before the switch until the old system comes back, unless the new one is confirmed; 5 minutes by
    /// default. It must be enough for the switch, the health checks and [`Confirm::grace`].
    pub after: Limit,
}

impl Default for RollbackSettings {
    fn default() -> Self {
        RollbackSettings {
            after: Limit::clamped(Duration::from_secs(5 * 60)),
        }
    }
}

/// `[confirm]`: the check that the appliance is reachable from the new system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Confirm {
    /// Time for retries after the switch; a minute by default.
    pub grace: Limit,
}

impl Default for Confirm {
    fn default() -> Self {
        Confirm {
            grace: Limit::clamped(Duration::from_secs(60)),
        }
    }
}

/// `[self_update]`: self-updates of the lock file or the channels, if the fleet's policy allows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelfUpdate {
    /// The least time between two self-updates; none: at every run, which is the default.
    pub every: Option<Interval>,
}

/// `[reboot]`: reboots of the machine, if the fleet's policy allows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RebootSettings {
    /// Whether the old kernel starts the new one, without the firmware, if the system supports it; true by default.
    pub kexec: bool,
}

impl Default for RebootSettings {
    fn default() -> Self {
        RebootSettings { kexec: true }
    }
}
