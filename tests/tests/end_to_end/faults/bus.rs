//! A system bus that goes, or that nobody answers at, and a unit that doesn't stop: neither an update nor its way back
//! depends on them.

use anyhow::Result;
use bento_tests::guest::Features;

use super::env::{FaultEnv, QUICK};

/// A switch that fails where it can't reach the bus, as that of recent versions of NixOS does.
const NEEDS_BUS: &str = "standIn.needsBus = true;";
/// A system without its bus, which something else keeps from being confirmed.
const BUS_DIES: &str = r#"
  system.activationScripts.bus = "systemctl mask --quiet --runtime --now dbus.socket dbus.service";
  services.bento-client.health.checks.shop.command = [ "/bin/false" ];
"#;

/// Passes the client's calls of systemd-run on, with a bound for a way back that a test can wait for.
const SOON: &str = r#"#!/bin/sh
    for word; do
        shift
        [ "$word" != --property=RuntimeMaxSec=600 ] || word=--property=RuntimeMaxSec=5
        set -- "$@" "$word"
    done
    exec /usr/bin/systemd-run "$@"
"#;
/// A system that brings what the old one can't get rid of before that.
const NEVER_STOPS: &str = r#"
  systemd.services.stuck = {
    wantedBy = [ "multi-user.target" ];
    script = "trap \"\" TERM; exec sleep infinity";
    serviceConfig.TimeoutStopSec = 30;
  };
  services.bento-client.health.checks.shop.command = [ "/bin/false" ];
"#;

impl FaultEnv {
    fn has_bus(&self) -> Result<bool> {
        let asked = self.vm.guest.run(["busctl", "--timeout=5", "list"])?;
        Ok(asked.status.success())
    }
}

// Issue 10, line 17.
#[test]
fn a_bus_that_restarts_amid_a_switch_does_not_end_the_wait_for_it() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.publish("system.activationScripts.bus = \"systemctl restart dbus.service; sleep 3\";")?;
    env.update(0)?;
    let reports = env.expect_reports(&["switched"])?;
    assert_eq!(reports[0]["error"], serde_json::Value::Null);
    env.is_up_to_date()
}

// Issue 10, line 17.
#[test]
fn a_system_whose_bus_is_dead_is_rolled_back_without_it() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    let boot = env.vm.guest.boot_id()?;
    env.publish(BUS_DIES)?;
    env.update(3)?;
    env.expect_reports(&["rolled_back"])?;
    assert!(!env.has_bus()?);
    env.is_wholly("1")?;

    // By the timer, too.
    let guest = &env.vm.guest;
    let unmask =
        "systemctl unmask --quiet --runtime dbus.socket dbus.service; systemctl start dbus.socket";
    guest.shell(unmask)?.success()?;
    env.publish(&format!("{BUS_DIES}system.activationScripts.again = \"\";"))?;
    let halted = env.vm.guest.update_halted_at("confirm")?;
    halted.kill()?;
    let time_is_over = "cd /run/systemd/transient; systemctl start bento-rollback-*.service";
    env.vm.guest.shell(time_is_over)?.success()?;
    assert!(!env.has_bus()?);
    env.expect_reports(&["rolled_back"])?;
    env.is_wholly("1")?;
    assert_eq!(env.vm.guest.boot_id()?, boot);
    Ok(())
}

// Issue 10, line 17.
#[test]
fn an_old_system_that_cannot_be_switched_to_comes_back_by_a_boot() -> Result<()> {
    let common = format!("{QUICK}{NEEDS_BUS}");
    let mut env = FaultEnv::with(Features::default(), &common, "")?;
    let boot = env.vm.guest.boot_id()?;
    env.publish(BUS_DIES)?;
    // It reboots by itself, whatever the policy says, and perhaps before the client has ended.
    env.vm.update()?;
    env.vm.guest.await_another_boot(&boot)?;
    env.vm.update()?;
    env.expect_reports(&["rollback_failed", "rolled_back"])?;
    assert!(env.has_bus()?);
    env.is_wholly("1")?;
    // It isn't tried, and nothing rebooted, once more.
    let boot = env.vm.guest.boot_id()?;
    env.vm.update()?;
    assert_eq!(env.vm.guest.boot_id()?, boot);
    env.is_wholly("1")
}

// Issue 10, line 30.
#[test]
fn a_way_back_that_waits_for_a_unit_that_does_not_stop_is_bounded() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    let guest = &env.vm.guest;
    guest.put_file("/opt/bento/bin/systemd-run", "755", SOON)?;
    let boot = guest.boot_id()?;
    env.publish(NEVER_STOPS)?;
    // It reboots by itself, perhaps before the client has ended.
    env.vm.update()?;
    let reports = env.expect_reports(&["rollback_failed"])?;
    let error = reports[0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("was ended: signal"), "{error}");
    env.vm.guest.await_another_boot(&boot)?;
    env.vm.update()?;
    env.expect_reports(&["rolled_back"])?;
    env.is_wholly("1")
}
