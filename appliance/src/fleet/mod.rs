//! The fleet: which machines there are, and what the administrator wants for each, as `fleet.toml` says.

pub mod edit;
mod host_table;
mod key;
mod notify;
mod reader;
mod settings;
mod source;
mod template;

use std::collections::BTreeMap;

use std::time::Duration;

use bento_protocol::{Address, BoundedDuration, HostName, Terms};
use serde::{Deserialize, Serialize};

pub use key::{PublicKey, PublicKeyError};
pub use notify::{Notify, Webhook};
pub use settings::{FILE_NAME, Reading, admin, decode, read};
pub use source::{SourcePath, SourceTemplate};

/// A whole fleet, as read from `fleet.toml`, or as it last was good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// Where the machines find the appliance.
    pub server: Server,
    /// When something is published.
    pub publish: Publish,
    /// Who is told when a machine's state turns bad, if anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// The machines.
    pub hosts: BTreeMap<HostName, Host>,
}

impl Fleet {
    /// Whether a machine had this name before.
    pub fn is_former_name(&self, name: &HostName) -> bool {
        let mut hosts = self.hosts.values();
        hosts.any(|host| host.renamed_from.as_ref() == Some(name))
    }

    /// The same fleet with an account for every former name that isn't another machine's: a machine logs in by that name
    /// until it runs the system with its new one.
    #[must_use]
    pub fn with_former_names(mut self) -> Self {
        let renamed = self.hosts.iter().filter_map(|(name, host)| {
            let former = host.renamed_from.clone()?;
            let mut account = Host {
                renamed_from: None,
                renamed_to: Some(name.clone()),
                ..host.clone()
            };
            let attribute = account.terms.attribute.take();
            account.terms.attribute = attribute.or(name.as_str().parse().ok());
            Some((former, account))
        });
        let renamed: Vec<_> = renamed.collect();
        for (former, account) in renamed {
            self.hosts.entry(former).or_insert(account);
        }
        self
    }
}

/// Where the machines find the appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The name or address that the clients dial.
    pub address: Address,
    /// The port that they dial.
    #[serde(default = "default_port")]
    pub port: u16,
    /// If not empty, the only host keys with which the appliance may run.
    #[serde(default)]
    pub host_keys: Vec<PublicKey>,
    /// How `status`, `logs` and `diff` reach the appliance from the administrator's machine.
    #[serde(default)]
    pub admin: Vec<String>,
}

fn default_port() -> u16 {
    2222
}

/// How long nothing may change in a folder before it counts as stable: longer than a tick of any clock by which a kernel
/// dates changes, and shorter than what is a problem, a folder that doesn't stop changing.
pub type Debounce = BoundedDuration<100, 30_000>;

/// The default of [`Debounce`]: longer than the pauses of a copy in progress, and short enough for a change to be
/// published within 5 s.
pub const DEBOUNCE: Duration = Duration::from_secs(2);

/// How long no contact is normal: up to a hundred years.
pub type SilentAfter = BoundedDuration<1_000, { 36_500 * DAY }>;

/// The default of [`SilentAfter`].
const SILENT_AFTER: Duration = Duration::from_millis(DAY);

/// A day in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// When something is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// What makes a generation publishable.
    pub when: When,
    /// How long nothing may change in a machine's folder before it is published.
    pub debounce: Debounce,
    /// Whether only what was built may be published.
    pub require_build: bool,
}

impl Default for Publish {
    fn default() -> Self {
        Publish {
            when: When::default(),
            debounce: Debounce::clamped(DEBOUNCE),
            require_build: false,
        }
    }
}

/// What makes a generation publishable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// That it is in the folder, once that is stable.
    #[default]
    Change,
    /// That `bento deploy` approved it.
    Deploy,
}

/// Which of the marker files in a machine's folder count for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overruled {
    /// `REBOOT`.
    pub reboot: bool,
    /// `SELF_UPDATE`.
    pub self_update: bool,
}

/// One machine, with the defaults applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The keys with which it logs in.
    pub keys: Vec<PublicKey>,
    /// Where its configuration lies.
    pub source: SourcePath,
    /// Patterns that bring back what `exclude` took.
    pub include: Vec<String>,
    /// Patterns that take something from what it gets of its source.
    pub exclude: Vec<String>,
    /// What its client must know; the marker files in its folder may add to it.
    pub terms: Terms,
    /// Which marker files count for nothing, because its own table says what they would.
    #[serde(default)]
    pub overruled: Overruled,
    /// The name that it had before.
    pub renamed_from: Option<HostName>,
    /// Of the account of a former name: the name that the machine has now. It is told what that one is told, until its
    /// new system has the new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_to: Option<HostName>,
    /// Whether it keeps the generation that it has.
    pub paused: bool,
    /// How long no contact is normal.
    pub silent_after: SilentAfter,
}
