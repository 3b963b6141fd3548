use std::time::Duration;

use serde::Deserialize;

use super::{Interval, Limit};

/// `operation`: when a new system takes effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// At once.
    #[default]
    Switch,
    /// At the next boot.
    Boot,
}

/// `[rollback]`: what happens when nobody can tell whether the new system works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackSettings {
    /// When nothing has confirmed the new system by then, counted from just before the switch, the old one comes back;
    /// 5 minutes by default. It must leave time for the switch, the health checks and [`Confirm::grace`].
    pub after: Limit,
}

impl Default for RollbackSettings {
    fn default() -> Self {
        RollbackSettings {
            after: Limit::clamped(Duration::from_secs(5 * 60)),
        }
    }
}

/// `[confirm]`: how the new system shows that it can still be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Confirm {
    /// How long the appliance is tried again after the switch; a minute by default.
    pub grace: Limit,
}

impl Default for Confirm {
    fn default() -> Self {
        Confirm {
            grace: Limit::clamped(Duration::from_secs(60)),
        }
    }
}

/// `[self_update]`: how the client moves the lock file or the channels by itself, where the fleet's policy wants it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelfUpdate {
    /// The least time between two moves; none, as by default: at every run.
    pub every: Option<Interval>,
}

/// `[reboot]`: how the machine reboots, where the fleet's policy wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RebootSettings {
    /// Whether the new kernel is started by the old one, without the firmware, where the system supports it; true by
    /// default.
    pub kexec: bool,
}

impl Default for RebootSettings {
    fn default() -> Self {
        RebootSettings { kexec: true }
    }
}
