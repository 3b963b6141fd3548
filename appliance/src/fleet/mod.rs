//! The fleet: the machines and their settings in `fleet.toml`.

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

/// A fleet, from `fleet.toml` or from its last valid version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The appliance's address, as the machines use it.
    pub server: Server,
    /// The conditions of a publication.
    pub publish: Publish,
    /// The webhook for notifications, if any.
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

    /// The fleet with an account for every former name that no other machine has: a renamed machine logs in with it
    /// until it runs the system with its new name.
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

/// The appliance's address, as the machines use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The name or address to connect to.
    pub address: Address,
    /// The port to connect to.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The allowed host keys of the appliance; empty: any.
    #[serde(default)]
    pub host_keys: Vec<PublicKey>,
    /// The command by which `status`, `logs` and `diff` reach the appliance from the administrator's machine.
    #[serde(default)]
    pub admin: Vec<String>,
}

fn default_port() -> u16 {
    2222
}

/// Time without a change after which a folder is stable: longer than a tick of any kernel's clock for timestamps, and
/// shorter than the time after which a folder that keeps changing is a problem.
pub type Debounce = BoundedDuration<100, 30_000>;

/// The default of [`Debounce`]: longer than the pauses of a copy in progress, and short enough to publish a change
/// within 5 s.
pub const DEBOUNCE: Duration = Duration::from_secs(2);

/// Time without a contact after which a machine is silent: up to a hundred years.
pub type SilentAfter = BoundedDuration<1_000, { 36_500 * DAY }>;

/// The default of [`SilentAfter`].
const SILENT_AFTER: Duration = Duration::from_millis(DAY);

/// A day in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// The conditions of a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// The trigger of a publication.
    pub when: When,
    /// Time without a change in a machine's folder before its publication.
    pub debounce: Debounce,
    /// Whether a generation must have been built before.
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

/// The trigger of a publication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// A change in the folder, once it is stable.
    #[default]
    Change,
    /// An approval by `bento deploy`.
    Deploy,
}

/// Marker files in a machine's folder that `fleet.toml` overrides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overruled {
    /// `REBOOT`.
    pub reboot: bool,
    /// `SELF_UPDATE`.
    pub self_update: bool,
}

/// A machine's settings, with the defaults applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The public keys for its login.
    pub keys: Vec<PublicKey>,
    /// The folder of its configuration.
    pub source: SourcePath,
    /// Patterns of files that it gets in spite of `exclude`.
    pub include: Vec<String>,
    /// Patterns of files in its source that it doesn't get.
    pub exclude: Vec<String>,
    /// Settings for its client; marker files in its folder may add to them.
    pub terms: Terms,
    /// Marker files that its own table overrides.
    #[serde(default)]
    pub overruled: Overruled,
    /// Its former name.
    pub renamed_from: Option<HostName>,
    /// For an account of a former name: the machine's current name. Both accounts get the same generation, until the
    /// machine's system has the new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_to: Option<HostName>,
    /// Whether it keeps its current generation.
    pub paused: bool,
    /// Time without a contact after which it is silent.
    pub silent_after: SilentAfter,
}
