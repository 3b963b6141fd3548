//! `/etc/bento/client.toml`: this machine's name, its servers, and its owner's settings for updates.

mod byte_size;
mod disk;
mod health;
mod of_system;
mod restart_units;
mod server;
mod update;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bento_protocol::{BoundedDuration, HostName, NixArguments, wrong_type};
use serde::Deserialize;

pub use byte_size::{ByteSize, ByteSizeError};
pub use disk::{Disk, KeptSystems, KeptSystemsError};
pub use health::{CheckCommand, CheckCommandError, CheckName, CheckNameError, Health, HealthCheck};
pub(crate) use of_system::SystemSettings;
pub use restart_units::{RestartUnits, UnitName, UnitNameError};
pub use server::{Server, ServerError};
pub use update::{Confirm, Operation, RebootSettings, RollbackSettings, SelfUpdate};

/// The default path of the settings.
pub const SETTINGS_FILE: &str = "/etc/bento/client.toml";
/// The default path of the machine's private key.
pub const IDENTITY_FILE: &str = "/var/lib/bento/id_ed25519";
/// The default `NIX_PATH` for a machine without a flake: root's channels, as in NixOS itself.
pub const NIX_PATH: &str = "nixpkgs=/nix/var/nix/profiles/per-user/root/channels/nixos:\
                            /nix/var/nix/profiles/per-user/root/channels";

/// The content of `client.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This machine's name in the fleet, and its account on the server.
    pub name: HostName,
    /// The machine's private key: ed25519, in OpenSSH's format, without a passphrase.
    #[serde(default = "identity_file")]
    pub identity_file: PathBuf,
    /// This machine's own arguments for the build; they come after the policy's.
    #[serde(default)]
    pub nix_args: NixArguments,
    /// `NIX_PATH` for the build of a `configuration.nix`; flakes ignore it.
    #[serde(default = "nix_path")]
    pub nix_path: String,
    /// A command whose standard input and output are the connection, in place of TCP; the shell runs it, with `%h`
    /// and `%p` replaced by the server's address and port, and `%%` by `%`.
    pub proxy_command: Option<String>,
    /// The servers, tried in order.
    pub servers: Vec<Server>,
    /// Time limits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// When a new system is activated: `"switch"`, at once, by default; `"boot"`, at the next boot.
    #[serde(default)]
    pub operation: Operation,
    /// Whether to refuse a system without a timer for the client or without settings for this machine, which could
    /// never be updated again; true by default.
    #[serde(default = "guard")]
    pub guard: bool,
    /// The rollback timer.
    #[serde(default)]
    pub rollback: RollbackSettings,
    /// The check that the appliance is reachable from the new system.
    #[serde(default)]
    pub confirm: Confirm,
    /// Health checks of the new system.
    #[serde(default)]
    pub health: Health,
    /// Units to restart when a secret changes.
    #[serde(default)]
    pub restart_units: RestartUnits,
    /// What may be deleted to free space for a build.
    #[serde(default)]
    pub disk: Disk,
    /// Settings of self-updates, which update the lock file or the channels.
    #[serde(default)]
    pub self_update: SelfUpdate,
    /// Settings of reboots.
    #[serde(default)]
    pub reboot: RebootSettings,
}

/// A time limit, up to a day.
pub type Limit = BoundedDuration<1_000, 86_400_000>;

/// A time limit for an answer within a transfer: libssh2 gives up after 60 seconds, with any limit.
pub type TransferLimit = BoundedDuration<1_000, 60_000>;

/// The least time between two events, from a minute to a year.
pub type Interval = BoundedDuration<60_000, 31_536_000_000>;

/// Time limits for the network, and for Nix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For each step up to the login: TCP, handshake, authentication, start of SFTP.
    pub connect: Limit,
    /// For each answer after it. Data comes in answers of at most 30,000 bytes, so with the default a transfer may be
    /// as slow as 500 bytes a second, and a stalled one ends.
    pub transfer: TransferLimit,
    /// For each call of Nix that builds or updates inputs: one that hangs must not block later generations. Finished
    /// derivations stay in the store, so that the next attempt continues from there.
    pub build: Limit,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Limit::clamped(Duration::from_secs(30)),
            transfer: TransferLimit::clamped(TransferLimit::MAX),
            build: Limit::clamped(Limit::MAX),
        }
    }
}

fn identity_file() -> PathBuf {
    IDENTITY_FILE.into()
}

fn nix_path() -> String {
    NIX_PATH.into()
}

fn guard() -> bool {
    true
}

/// The error of a file that isn't UTF-8, with the line.
fn not_utf8(error: std::string::FromUtf8Error) -> std::io::Error {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
    std::io::Error::other(format!("line {line} isn't in UTF-8"))
}

impl Settings {
    /// Reads a file of settings. Errors name the file, and the line where there is one.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(file);
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(not_utf8));
        let text = text.with_context(|| {
            format!(
                "can't read the settings {}: the NixOS module writes them, and so does `bento-client bootstrap`",
                file.display()
            )
        })?;
        Self::parse(&text).with_context(|| format!("the settings {} are wrong", file.display()))
    }

    /// Reads settings from text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let settings: Settings = toml_edit::de::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            match wrong_type(error.message(), before) {
                Some(words) => anyhow!("line {}: {words}", before.matches('\n').count() + 1),
                None => error.into(),
            }
        })?;
        if settings.servers.is_empty() {
            bail!("there is no [[servers]] with an address and host_keys");
        }
        if let Some(server) = settings
            .servers
            .iter()
            .find(|server| server.host_keys.is_empty())
        {
            bail!(
                "the server {server} has no host_keys to identify it: \
                 `bento host-key` on the appliance prints its key"
            );
        }
        if settings.identity_file.is_relative() {
            bail!(
                "identity_file = {:?} isn't an absolute path",
                settings.identity_file.display().to_string()
            );
        }
        let (after, grace) = (
            settings.rollback.after.duration(),
            settings.confirm.grace.duration(),
        );
        if after <= grace {
            bail!(
                "rollback.after ({after:?}) isn't longer than confirm.grace ({grace:?}): the old system would come \
                 back while the appliance is still being tried"
            );
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests;
