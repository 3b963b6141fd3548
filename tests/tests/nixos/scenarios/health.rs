//! A new system that has to prove itself, or the old one comes back.

use anyhow::Result;
use bento_tests::guest::Features;
use std::time::Duration;

use bento_tests::Proxy;

use crate::env::Env;
use crate::vm::Vm;

pub(super) fn network(env: &Env) -> Result<()> {
    let features = Features {
        network: true,
        ..Features::default()
    };
    let mut vm = Vm::boot(env, "cut", "", features)?;
    let here = vm
        .guest
        .host_address()
        .map_or([127, 0, 0, 1].into(), Into::into);
    let proxy = Proxy::start_at(here, env.appliance.address(), Duration::ZERO)?;
    vm.go_through(proxy.address())?;
    vm.update(0)?;
    vm.reports(&["switched"])?;
    vm.goes_back_from(
        r#"systemd.services.cut = {
          wantedBy = [ "multi-user.target" ];
          path = [ pkgs.iproute2 ];
          script = "ip link set host0 down";
          preStop = "ip link set host0 up";
          serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
        };"#,
        "can't be reached",
    )
}

pub(super) fn failing(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "sick", "")?;
    vm.goes_back_from(
        r#"services.bento-client.health.checks.shop.command = [ "${pkgs.coreutils}/bin/false" ];"#,
        "shop",
    )?;
    let wanted = vm.switches_to(
        r#"services.bento-client.health.checks.shop = { command = [ "false" ]; required = false; };"#,
    )?;
    anyhow::ensure!(wanted["error"].to_string().contains("shop"), "{wanted}");
    Ok(())
}

pub(super) fn late(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "late", "")?;
    let late = r#"
      services.bento-client.confirm.grace = "30s";
      systemd.services.shop = {
        wantedBy = [ "multi-user.target" ];
        script = "rm -f /run/shop; sleep 3; touch /run/shop; exec sleep infinity";
      };
      services.bento-client.health.checks.shop.command = [ "test" "-e" "/run/shop" ];
    "#;
    let report = vm.switches_to(late)?;
    anyhow::ensure!(report["error"].is_null(), "{report}");
    Ok(())
}

pub(super) fn hanging(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "hung", "")?;
    vm.goes_back_from(
        r#"services.bento-client.health.checks.shop = { command = [ "sleep" "600" ]; timeout = "1s"; };"#,
        "shop",
    )
}

pub(super) fn unit(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "unit", "")?;
    vm.goes_back_from(
        r#"systemd.services.newly = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.Type = "oneshot";
          script = "exit 7";
        };"#,
        "newly.service",
    )
}

/// At no time is it a failed unit, because systemd is about to start it again.
pub(super) fn restarted_unit(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "again", "")?;
    vm.goes_back_from(
        r#"systemd.services.newly = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig = { Type = "notify"; Restart = "always"; RestartSec = "1s"; };
          script = "sleep 4; exit 7";
        };"#,
        "newly.service",
    )
}
