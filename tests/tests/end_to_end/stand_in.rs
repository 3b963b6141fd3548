//! What the stand-in for nixpkgs plays of NixOS: how a switch goes wrong, and what a boot leads to.

use anyhow::Result;
use bento_tests::Guest;
use bento_tests::guest::Features;
use bento_tests::process::Output;

use crate::vm::{configuration, exits};

const FLAKE: &str = r#"{
  inputs.nixpkgs.url = "path:/srv/nixpkgs-stand-in";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations.machine = nixpkgs.lib.nixosSystem { modules = [ ./configuration.nix ]; };
  };
}
"#;
const BUILD: &str = "nix build --no-write-lock-file --out-link /root/result \
    path:/root/config#nixosConfigurations.machine.config.system.build.toplevel";

struct StandInMachine(Guest);

impl StandInMachine {
    fn boot(features: Features) -> Result<Self> {
        let guest = Guest::boot_with(features)?;
        guest.put_file("/root/config/flake.nix", "644", FLAKE)?;
        Ok(StandInMachine(guest))
    }

    /// Builds a configuration and does something with it.
    fn switch(&self, action: &str, version: &str, more: &str) -> Result<Output> {
        let text = configuration(version, more);
        self.0
            .put_file("/root/config/configuration.nix", "644", text)?;
        self.0.shell(BUILD)?.success()?;
        self.0
            .run(["/root/result/bin/switch-to-configuration", action])
    }

    /// The version that runs, and the one that a boot leads to.
    fn versions(&self) -> Result<[String; 2]> {
        let running = "/run/current-system/etc/version";
        let booting = "/boot/default-system/etc/version";
        Ok([self.0.read_file(running)?, self.0.read_file(booting)?])
    }
}

#[test]
fn a_test_does_not_boot_a_boot_does_not_activate_and_each_fails_in_its_own_way() -> Result<()> {
    let mut machine = StandInMachine::boot(Features::default())?;
    exits(&machine.switch("switch", "1", "")?, 0);
    exits(&machine.switch("test", "2", "")?, 0);
    assert_eq!(machine.versions()?, ["2", "1"]);
    let no_room = "standIn.bootLoader = \"exit 1\";";
    exits(&machine.switch("boot", "3", no_room)?, 1);
    assert_eq!(machine.versions()?, ["2", "1"]);
    exits(&machine.switch("test", "3", no_room)?, 0);
    for (code, action, expected) in [
        (1, "test", 1),
        (11, "boot", 11),
        (100, "test", 100),
        (100, "boot", 0),
    ] {
        let play = format!("standIn.exitCode = {code};");
        exits(&machine.switch(action, "4", &play)?, expected);
        assert_eq!(machine.versions()?[0], "3");
    }
    assert_eq!(machine.versions()?, ["3", "4"]);

    let broken = r#"systemd.services.broken = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.Type = "oneshot";
        script = "exit 7";
    };"#;
    for _ in 0..2 {
        let switched = machine.switch("test", "5", broken)?;
        exits(&switched, 4);
        assert!(
            switched.stderr.contains("broken.service"),
            "{}",
            switched.stderr
        );
    }
    exits(&machine.switch("test", "6", "")?, 0);
    exits(
        &machine.switch("test", "7", "system.activationScripts.bad = \"exit 1\";")?,
        2,
    );
    assert_eq!(machine.versions()?, ["7", "4"]);

    machine.0.reboot()?;
    assert_eq!(machine.versions()?, ["4", "4"]);
    assert_eq!(machine.0.read_file("/etc/version")?, "4");
    let booted = machine.0.read_file("/run/booted-system/etc/version")?;
    assert_eq!(booted, "4");
    Ok(())
}

#[test]
fn a_configuration_kills_the_network_and_the_one_before_restores_it() -> Result<()> {
    let machine = StandInMachine::boot(Features {
        network: true,
        ..Features::default()
    })?;
    let uplink = |state: &str| {
        format!(
            r#"systemd.services.uplink = {{
                wantedBy = [ "multi-user.target" ];
                serviceConfig = {{ Type = "oneshot"; RemainAfterExit = true; }};
                script = "ip link set host0 {state}";
            }};"#
        )
    };
    let is_up = || -> Result<bool> {
        let link = machine.0.run(["ip", "-oneline", "link", "show", "host0"])?;
        Ok(link.success()?.stdout.contains(",UP"))
    };
    exits(&machine.switch("switch", "1", &uplink("up"))?, 0);
    assert!(is_up()?);
    exits(&machine.switch("test", "2", &uplink("down"))?, 0);
    assert!(!is_up()?);
    exits(&machine.switch("test", "1", &uplink("up"))?, 0);
    assert!(is_up()?);
    Ok(())
}
