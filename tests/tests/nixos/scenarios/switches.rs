//! What a switch of NixOS does to units, users and secrets.

use anyhow::{Result, bail, ensure};

use super::Absent;
use crate::env::Env;
use crate::vm::Vm;

/// Each is changed by the very run that they carry out.
pub(super) fn own_units(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "own", "")?;
    vm.publish(
        r#"
        systemd.services.bento-update.environment.MARK = "second";
        systemd.timers.bento-update.timerConfig.RandomizedDelaySec = lib.mkForce "7min";
        services.bento-client.package = pkgs.runCommand "bento-client-next" { } ''
          mkdir -p $out/bin
          cp ${options.services.bento-client.package.default}/bin/bento-client $out/bin/
          echo next >$out/next
        '';
        "#,
    )?;
    vm.update_by_unit()?;
    ensure!(
        vm.property("bento-update.service", "Result")? == "success",
        "the unit failed"
    );
    vm.reports(&["switched"])?;
    vm.is_up_to_date()?;
    let environment = vm.property("bento-update.service", "Environment")?;
    ensure!(environment.contains("MARK=second"), "{environment}");
    ensure!(
        vm.property("bento-update.timer", "RandomizedDelayUSec")? == "7min",
        "the timer is the old one"
    );
    ensure!(
        vm.property("bento-update.timer", "ActiveState")? == "active",
        "the timer doesn't run"
    );
    vm.shell(
        "test -e \"$(dirname \"$(readlink -f /run/current-system/sw/bin/bento-client)\")/../next\"",
    )?;
    vm.publish("")?;
    vm.update_by_unit()?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()
}

/// The hash of a user's password is a secret, which NixOS reads before any unit starts; a service reads another.
pub(super) fn secrets(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "secret", "")?;
    let secret = |name: &str, text: &str| {
        let fleet = env.fleet.borrow();
        fleet.write(&format!("bento-secrets/secret/{name}"), text)
    };
    vm.common = r#"
        # Else NixOS reads the file only when it makes the user.
        users.mutableUsers = false;
        users.allowNoPasswordLogin = true;
        users.users.alice = { isNormalUser = true; hashedPasswordFile = "/var/lib/bento/secrets/alice"; };
        services.bento-client.secrets.token.restartUnits = [ "reader.service" ];
        systemd.services.reader = {
          wantedBy = [ "multi-user.target" ];
          script = "cp /var/lib/bento/secrets/token /run/reader; exec sleep infinity";
        };
    "#
    .to_owned();
    let password = |vm: &Vm<'_>| vm.shell("getent shadow alice | cut -d : -f 2");
    secret("alice", "$y$j9T$one")?;
    vm.switches_to("")?;
    ensure!(
        password(&vm)?.trim() == "$y$j9T$one",
        "the password isn't the secret"
    );
    ensure!(
        vm.shell("cat /run/reader")? == "2",
        "the reader has another secret"
    );
    // Nothing but the secrets changes.
    secret("alice", "$y$j9T$two")?;
    vm.switches_to("")?;
    ensure!(
        password(&vm)?.trim() == "$y$j9T$two",
        "the password isn't the new secret"
    );
    ensure!(
        vm.shell("cat /run/reader")? == "3",
        "the reader wasn't restarted"
    );
    // At a boot they are there before the users are made.
    vm.common += "services.bento-client.operation = \"boot\";";
    let bob = r#"users.users.bob = { isNormalUser = true; hashedPasswordFile = "/var/lib/bento/secrets/bob"; };"#;
    secret("bob", "$y$j9T$bob")?;
    vm.publish(bob)?;
    vm.update(0)?;
    vm.reports(&["staged"])?;
    vm.reboot()?;
    let entry = vm.shell("getent shadow bob | cut -d : -f 2")?;
    ensure!(entry.trim() == "$y$j9T$bob", "bob was made with {entry}");
    vm.update(0)?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()
}

pub(super) fn specialisations(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "special", "")?;
    vm.common =
        r#"specialisation.travel.configuration.environment.etc.travel.text = "yes";"#.to_owned();
    vm.switches_to("")?;
    vm.shell("/run/current-system/specialisation/travel/bin/switch-to-configuration test")?;
    vm.shell("test -e /etc/travel")?;
    vm.publish("")?;
    vm.update(0)?;
    vm.reports(&["switched"])?;
    // It stays active where the new system has it, and a boot leads to the system itself.
    ensure!(
        vm.shell("cat /etc/travel /etc/version")? == "yes3",
        "the specialisation isn't active"
    );
    let profile = vm.shell("readlink -f /nix/var/nix/profiles/system/specialisation/travel")?;
    ensure!(
        profile == vm.shell("readlink -f /run/current-system")?,
        "another system runs"
    );
    vm.reboot()?;
    vm.update(0)?;
    vm.is_up_to_date()?;
    vm.shell("test ! -e /etc/travel")?;
    Ok(())
}

pub(super) fn systemd(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "systemd", "")?;
    let before = vm.shell("readlink /proc/1/exe; readlink -f /run/current-system/systemd")?;
    vm.switches_to("systemd.package = pkgs.systemd.overrideAttrs { another = true; };")?;
    let after = vm.shell("readlink /proc/1/exe; readlink -f /run/current-system/systemd")?;
    ensure!(before != after, "systemd is still {before}");
    let journal = vm.shell("journalctl --no-pager --boot _PID=1")?;
    ensure!(
        journal.contains("Reexecut"),
        "systemd wasn't executed anew: {journal}"
    );
    Ok(())
}

/// From the switch in Perl to the one in Rust, within it, back from a bad system, and to the one in Perl.
pub(super) fn rust(env: &Env) -> Result<()> {
    if !env.has("pkgs/by-name/sw/switch-to-configuration-ng") {
        bail!(Absent("switch-to-configuration-ng"));
    }
    let mut vm = Vm::updated(env, "rust", "")?;
    let kind = |vm: &Vm<'_>| {
        vm.shell("head -c 2 /run/current-system/bin/.switch-to-configuration-wrapped | tr -d '\\0'")
    };
    vm.common = "system.switch = { enable = false; enableNg = true; };".to_owned();
    vm.switches_to("")?;
    ensure!(!kind(&vm)?.starts_with("#!"), "it isn't a program");
    vm.switches_to("systemd.services.new = { wantedBy = [ \"multi-user.target\" ]; script = \"sleep infinity\"; };")?;
    ensure!(
        vm.property("new.service", "ActiveState")? == "active",
        "a new service wasn't started"
    );
    vm.goes_back_from(
        r#"systemd.services.newly = { wantedBy = [ "multi-user.target" ]; serviceConfig.Type = "oneshot"; script = "exit 7"; };"#,
        "newly.service",
    )?;
    vm.common = String::new();
    vm.switches_to("").map(drop)
}

/// What may only be booted, by NixOS' own check, is staged and says why.
pub(super) fn inhibitors(env: &Env) -> Result<()> {
    if !env.has("nixos/modules/system/activation/switch-inhibitors.nix") {
        bail!(Absent("switch inhibitors"));
    }
    let mut vm = Vm::updated(env, "inhibited", "")?;
    vm.switches_to("services.dbus.implementation = \"dbus\";")?;
    vm.publish("services.dbus.implementation = \"broker\";")?;
    vm.update(0)?;
    let report = vm.reports(&["staged"])?.remove(0);
    ensure!(report["error"].to_string().contains("dbus"), "{report}");
    vm.reboot()?;
    vm.update(0)?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()
}

/// A system without the client is refused, unless the one before has said that the machine may leave.
pub(super) fn leaving(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "leaves", "")?;
    let off = "services.bento-client.enable = lib.mkForce false;";
    vm.publish(off)?;
    let text = vm.update(1)?;
    ensure!(text.contains("never be updated again"), "{text}");
    vm.is_wholly("1")?;
    vm.reports(&["activation_failed"])?;
    vm.publish("services.bento-client.guard = false;")?;
    vm.update_by_unit()?;
    vm.reports(&["switched"])?;
    vm.publish(off)?;
    vm.update_by_unit()?;
    vm.reports(&["switched"])?;
    env.await_state(vm.name, "up-to-date")?;
    ensure!(
        vm.property("bento-update.timer", "LoadState")? == "not-found",
        "the timer is still there"
    );
    vm.shell("test ! -e /etc/bento/client.toml; systemctl is-system-running")?;
    Ok(())
}
