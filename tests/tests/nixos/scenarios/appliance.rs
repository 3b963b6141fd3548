//! The appliance's module: a machine that serves itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_tests::wait;
use serde_json::Value;

use crate::env::Env;
use crate::vm::Vm;

/// Not a port of the appliance outside, whose network the machine shares.
const PORT: u16 = 3322;
const LIMIT: Duration = Duration::from_secs(60);

/// It becomes an appliance by an update from another one, then follows its own.
pub(super) fn itself(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "server", "")?;
    // What a machine's own kernel gives and systemd-nspawn hides: /proc and /sys for containers, tun, and a file system
    // on which another overlay can stand.
    vm.shell(
        "for name in proc sysfs; do mkdir -p /run/full/$name; mount -t $name $name /run/full/$name; done
         mkdir -p /var/lib/bento-appliance; mount -t tmpfs -o mode=1777 tmpfs /var/lib/bento-appliance",
    )?;
    vm.common = format!(
        r#"imports = [ bento.nixosModules.appliance ];
        services.bento-appliance = {{
          enable = true;
          fleet = "/srv/fleet";
          port = {PORT};
          # Podman's own folder is in memory here.
          stateVolume = "/srv/state";
        }};
        systemd.tmpfiles.rules = [ "d /srv/state 0700 bento bento" ];
        # systemd-nspawn keeps keyrings and /proc/sys from what runs in it.
        virtualisation.containers.containersConf.settings.containers = {{ keyring = false; default_sysctls = [ ]; }};"#
    );
    let public =
        std::fs::read_to_string(env.fleet.borrow().key(vm.name).with_added_extension("pub"))?;
    let fleet = format!(
        "[server]\naddress = \"127.0.0.1\"\nport = {PORT}\n[publish]\ndebounce = \"200ms\"\n[hosts.server]\nkeys = [\"{}\"]\n",
        public.trim()
    );
    vm.guest.put_file("/srv/fleet/fleet.toml", "644", fleet)?;
    vm.switches_to("")?;
    ensure!(
        vm.property("bento-appliance.service", "ActiveState")? == "active",
        "the appliance doesn't run: {}",
        vm.shell("journalctl --no-pager --output cat --unit bento-appliance")?
    );

    // From now on its own appliance is the only one that it knows.
    let key = vm.shell("bento-appliance host-key")?;
    let key = key.split(" SHA256:").next().unwrap_or_default().trim();
    vm.common += &format!(
        "services.bento-client.servers = lib.mkForce [ {{ address = \"127.0.0.1\"; port = {PORT}; hostKeys = [ \"{key}\" ]; }} ];"
    );
    publish(&vm, "own-0")?;
    // What it reports goes there already.
    vm.publish("")?;
    vm.update(0)?;
    for version in ["own-1", "own-2"] {
        publish(&vm, version)?;
        vm.update_by_unit()?;
        ensure!(
            vm.shell("cat /etc/version")? == version,
            "it didn't switch to {version}"
        );
        wait::until("the report", LIMIT, || {
            (own_status(&vm).ok()?["state"] == "up-to-date").then_some(())
        })?;
    }
    Ok(())
}

/// Lets the machine's own appliance publish a version, all at once.
fn publish(vm: &Vm<'_>, version: &str) -> Result<()> {
    let text = vm.configuration(&format!(
        "environment.etc.version.text = lib.mkForce \"{version}\";"
    ));
    let before = own_status(vm)?["published"].clone();
    vm.guest
        .put_file("/srv/next/flake.nix", "644", vm.env.flake(vm.name))?;
    vm.guest
        .put_file("/srv/next/configuration.nix", "644", text)?;
    vm.shell("mkdir -p /srv/fleet/hosts; rm -rf /srv/fleet/hosts/server; mv /srv/next /srv/fleet/hosts/server")?;
    wait::until("the publication", LIMIT, || {
        (own_status(vm).ok()?["published"] != before).then_some(())
    })
}

/// The status of the machine, as its own appliance shows it.
fn own_status(vm: &Vm<'_>) -> Result<Value> {
    let status: Value = serde_json::from_str(&vm.shell("bento-appliance status --json")?)?;
    let hosts = status["hosts"].as_array().context("no hosts")?;
    hosts.first().cloned().context("no host")
}
