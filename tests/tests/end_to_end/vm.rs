//! A whole machine of the fleet: systemd, Nix and `bento-client`, in a guest of its own.

use std::env::consts::ARCH;
use std::fs;
use std::net::SocketAddr;

use anyhow::Result;
use bento_tests::guest::Features;
use bento_tests::process::Output;
use bento_tests::{Appliance, Fleet, Guest};

/// Where the client has its settings.
const SETTINGS: &str = "/etc/bento/client.toml";

/// Where a machine has what only it can know of its appliance, as an input of its flake.
pub(crate) const SITE: &str = "/srv/site/flake.nix";

/// The timers of the client's module.
const TIMERS: [&str; 3] = [
    "bento-update",
    "bento-update-boot",
    "bento-reboot-if-needed",
];
/// Times for a timer that never comes; the empty line removes those that it has, of every kind.
const NEVER: &str = "[Timer]\nOnCalendar=\nOnCalendar=2099-12-31\n";

/// A flake of one machine with the real module of the client, on the stand-in for nixpkgs. Which server it has, the
/// machine itself says: neither its port nor its key are known before the appliance runs, which is after this was
/// written.
pub(crate) fn flake(name: &str) -> String {
    format!(
        r#"{{
  inputs.nixpkgs.url = "path:/srv/nixpkgs-stand-in";
  inputs.bento.url = "path:/srv/bento-stand-in";
  inputs.site.url = "path:/srv/site";
  outputs = {{ nixpkgs, bento, site, ... }}: {{
    nixosConfigurations.{name} = nixpkgs.lib.nixosSystem {{
      modules = [ ./configuration.nix bento.nixosModules.client site.module ];
    }};
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

/// Lets a machine do nothing by itself, from its next boot or switch on.
pub(crate) fn stop_timers(guest: &Guest) -> Result<()> {
    for timer in TIMERS {
        let drop_in = format!("/etc/systemd/system/{timer}.timer.d/by-hand.conf");
        guest.put_file(&drop_in, "644", NEVER)?;
    }
    Ok(())
}

/// A machine that is up and enrolled.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) guest: Guest,
    name: String,
    host_key: String,
}

impl Vm {
    /// Boots a machine that has the fleet's key for this name, and settings that lead to the appliance.
    pub(crate) fn boot(fleet: &Fleet, name: &str, appliance: &Appliance) -> Result<Self> {
        Self::enrol(Guest::boot()?, fleet, name, appliance)
    }

    /// Boots such a machine with more than others have. With a network of its own it reaches nothing until it is
    /// set to go through a proxy at [`Guest::host_address`].
    pub(crate) fn boot_with(
        features: Features,
        fleet: &Fleet,
        name: &str,
        appliance: &Appliance,
    ) -> Result<Self> {
        Self::enrol(Guest::boot_with(features)?, fleet, name, appliance)
    }

    fn enrol(guest: Guest, fleet: &Fleet, name: &str, appliance: &Appliance) -> Result<Self> {
        let vm = Vm {
            guest,
            name: name.to_owned(),
            host_key: appliance.host_key()?,
        };
        let key = fs::read(fleet.key(name))?;
        vm.guest.put_file("/var/lib/bento/id_ed25519", "600", key)?;
        stop_timers(&vm.guest)?;
        vm.point_at(appliance.address(), &vm.host_key)?;
        Ok(vm)
    }

    /// Lets the settings lead to this server, and pin this key: those that it has now, and those of every system that
    /// it builds from now on.
    pub(crate) fn point_at(&self, server: SocketAddr, host_key: &str) -> Result<()> {
        let (name, address, port) = (&self.name, server.ip(), server.port());
        let site = format!(
            r#"{{
  outputs = {{ ... }}: {{
    module.services.bento-client = {{
      enable = true;
      name = "{name}";
      servers = [ {{ address = "{address}"; port = {port}; hostKeys = [ "{host_key}" ]; }} ];
    }};
  }};
}}
"#
        );
        self.guest.put_file(SITE, "644", site)?;
        let text = format!(
            "name = \"{name}\"\n[[servers]]\naddress = \"{address}\"\nport = {port}\nhost_keys = [\"{host_key}\"]\n"
        );
        self.guest.put_file(SETTINGS, "644", text)
    }

    /// Lets what is published say what the machine is called, from the next system on; here it only finds the appliance.
    pub(crate) fn leave_name_to_configuration(&self) -> Result<()> {
        let site = self.guest.read_file(SITE)?;
        let name = format!("name = \"{}\";", self.name);
        self.guest.put_file(SITE, "644", site.replace(&name, ""))
    }

    /// Goes through a proxy from now on.
    pub(crate) fn go_through(&self, proxy: SocketAddr) -> Result<()> {
        self.point_at(proxy, &self.host_key)
    }

    /// What `nix flake lock` makes of a flake here. Without such a file a generation that has failed is built again at
    /// each run, because its inputs may be others by then. With it no other server can be pointed at any more: that is
    /// an input too.
    pub(crate) fn lock(&self, flake: &str) -> Result<String> {
        let folder = "/root/lock";
        self.guest
            .put_file(&format!("{folder}/flake.nix"), "644", flake)?;
        self.guest
            .shell(&format!(
                "cd {folder}; rm -f flake.lock; nix flake lock path:{folder}"
            ))?
            .success()?;
        self.guest.read_file(&format!("{folder}/flake.lock"))
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
