//! A whole machine of the fleet: systemd, Nix and `bento-client`, in a guest of its own.

use std::env::consts::ARCH;
use std::fs;
use std::net::SocketAddr;

use anyhow::Result;
use bento_tests::process::Output;
use bento_tests::{Appliance, Fleet, Guest};

/// Where the client has its settings.
const SETTINGS: &str = "/etc/bento/client.toml";

/// A flake of one machine, on the stand-in for nixpkgs.
pub(crate) fn flake(name: &str) -> String {
    format!(
        r#"{{
  inputs.nixpkgs.url = "path:/srv/nixpkgs-stand-in";
  outputs = {{ nixpkgs, ... }}: {{
    nixosConfigurations.{name} = nixpkgs.lib.nixosSystem {{ modules = [ ./configuration.nix ]; }};
  }};
}}
"#
    )
}

/// The configuration of a machine, which it shows in /etc/version while it runs it; with more lines of Nix.
pub(crate) fn configuration(version: &str, more: &str) -> String {
    format!(
        r#"{{
  nixpkgs.hostPlatform = "{ARCH}-linux";
  environment.etc.version.text = "{version}";
  {more}
}}
"#
    )
}

/// A machine that is up and enrolled.
#[derive(Debug)]
pub(crate) struct Computer {
    pub(crate) guest: Guest,
    name: String,
    host_key: String,
}

impl Computer {
    /// Boots a machine that has the fleet's key for this name, and settings that lead to the appliance.
    pub(crate) fn boot(fleet: &Fleet, name: &str, appliance: &Appliance) -> Result<Self> {
        let computer = Computer {
            guest: Guest::boot()?,
            name: name.to_owned(),
            host_key: appliance.host_key()?,
        };
        let key = fs::read(fleet.key(name))?;
        computer
            .guest
            .put_file("/var/lib/bento/id_ed25519", "600", key)?;
        computer.point_at(appliance.address(), &computer.host_key)?;
        Ok(computer)
    }

    /// Lets the settings lead to this server, and pin this key.
    pub(crate) fn point_at(&self, server: SocketAddr, host_key: &str) -> Result<()> {
        let (name, address, port) = (&self.name, server.ip(), server.port());
        let text = format!(
            "name = \"{name}\"\n[[servers]]\naddress = \"{address}\"\nport = {port}\nhost_keys = [\"{host_key}\"]\n"
        );
        self.guest.put_file(SETTINGS, "644", text)
    }

    /// Goes through a proxy from now on.
    pub(crate) fn go_through(&self, proxy: SocketAddr) -> Result<()> {
        self.point_at(proxy, &self.host_key)
    }

    /// Runs an update by hand.
    pub(crate) fn update(&self) -> Result<Output> {
        self.guest.run(["bento-client", "update"])
    }

    /// The version that runs, as its configuration says.
    pub(crate) fn version(&self) -> Result<String> {
        self.guest.read_file("/etc/version")
    }

    /// The path of the system that runs.
    pub(crate) fn system(&self) -> Result<String> {
        let output = self.guest.run(["readlink", "-f", "/run/current-system"])?;
        Ok(output.success()?.stdout.trim().to_owned())
    }
}

/// Checks an exit code; where it is another one, all that was said is shown.
#[track_caller]
pub(crate) fn exits(output: &Output, code: i32) {
    assert_eq!(output.code(), code, "{}{}", output.stdout, output.stderr);
}
