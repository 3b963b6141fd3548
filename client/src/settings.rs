//! `/etc/bento/client.toml`: what this machine is called, and where its server is.

mod duration;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bento_protocol::{HostName, NixArguments};
use serde::Deserialize;

pub use duration::{Limit, LimitError, TransferLimit};
pub use server::{Address, AddressError, Server};

/// Where the settings lie unless a command is told otherwise.
pub const SETTINGS_FILE: &str = "/etc/bento/client.toml";
/// Where the machine's private key lies unless the settings say otherwise.
pub const IDENTITY_FILE: &str = "/var/lib/bento/id_ed25519";
/// Where `<nixpkgs>` and other channels are looked for, for a machine without a flake, unless the settings say
/// otherwise: the channels of root, as NixOS itself has them.
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
    /// `NIX_PATH` for the build of a `configuration.nix`; a flake doesn't look at it.
    #[serde(default = "nix_path")]
    pub nix_path: String,
    /// A command whose standard input and output are the connection, in place of TCP; the shell runs it, with `%h`
    /// and `%p` replaced by the server's address and port, and `%%` by `%`.
    pub proxy_command: Option<String>,
    /// The servers, tried in order.
    pub servers: Vec<Server>,
    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// How long the client waits for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For each step up to the login: TCP, handshake, authentication, start of SFTP.
    pub connect: Limit,
    /// For each answer after it; data comes in answers of at most 30,000 bytes, so with the default a transfer may be
    /// as slow as 500 bytes a second, and one that stands still ends.
    pub transfer: TransferLimit,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Limit::of(Duration::from_secs(20)),
            transfer: TransferLimit::default(),
        }
    }
}

fn identity_file() -> PathBuf {
    IDENTITY_FILE.into()
}

fn nix_path() -> String {
    NIX_PATH.into()
}

impl Settings {
    /// Reads a file of settings. Errors name the file, and the line where there is one.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| {
            format!(
                "can't read the settings {}: the NixOS module writes them, and so does `bento-client bootstrap`",
                file.display()
            )
        })?;
        Self::parse(&text).with_context(|| format!("the settings {} are wrong", file.display()))
    }

    /// Reads settings from text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let settings: Settings = toml_edit::de::from_str(text)?;
        if settings.servers.is_empty() {
            bail!("there is no [[servers]] with an address and host_keys");
        }
        if let Some(server) = settings
            .servers
            .iter()
            .find(|server| server.host_keys.is_empty())
        {
            bail!(
                "the server {server} has no host_keys, so that it couldn't be told from another: \
                 `bento host-key` on the appliance prints its key"
            );
        }
        if settings.identity_file.is_relative() {
            bail!(
                "identity_file = {:?} isn't an absolute path",
                settings.identity_file.display().to_string()
            );
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn text() -> String {
        format!(
            "name = \"kikimora\"\n\
             [[servers]]\n\
             address = \"bento.example.org\"\n\
             host_keys = [\"{KEY}\"]\n"
        )
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let settings = Settings::parse(&text()).unwrap();
        assert_eq!(settings.identity_file, Path::new(IDENTITY_FILE));
        assert_eq!(settings.nix_path, NIX_PATH);
        assert_eq!(settings.servers[0].port, 2222);
        assert_eq!(
            settings.timeouts.connect.duration(),
            Duration::from_secs(20)
        );
        assert_eq!(
            settings.timeouts.transfer.duration(),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn errors_name_the_line_and_what_is_wrong() {
        for (old, new, line, says) in [
            ("name =", "nam =", 1, "unknown field `nam`"),
            ("\"kikimora\"", "\"Kikimora\"", 1, "Kikimora"),
            ("[[servers]]", "[[servers]]\nadress = 1", 3, "unknown field"),
            ("bento.example.org", "bento;example", 3, "bento;example"),
            ("AAAA", "BBBB", 4, "isn't a host key"),
            (
                "\"kikimora\"",
                "\"kikimora\"\nnix_args = [\"--store\"]",
                2,
                "--store",
            ),
            (
                "\"kikimora\"",
                "\"kikimora\"\ntimeouts.connect = \"soon\"",
                2,
                "soon",
            ),
            (
                "\"kikimora\"",
                "\"kikimora\"\ntimeouts.transfer = \"2m\"",
                2,
                "at most 60s",
            ),
            ("\"kikimora\"", "\"kikimora", 1, "string"),
        ] {
            let wrong = text().replacen(old, new, 1);
            let error = format!("{:#}", Settings::parse(&wrong).unwrap_err());
            assert!(error.contains(&format!("line {line},")), "{new}: {error}");
            assert!(error.contains(says), "{new}: {error}");
        }
    }

    #[test]
    fn a_server_must_be_pinned() {
        let unpinned = text().replace(&format!("\"{KEY}\""), "");
        let error = Settings::parse(&unpinned).unwrap_err().to_string();
        assert!(error.contains("bento.example.org:2222"), "{error}");
        assert!(error.contains("bento host-key"), "{error}");
        assert!(Settings::parse("name = \"a\"\nservers = []\n").is_err());
    }
}
