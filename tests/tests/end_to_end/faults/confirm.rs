//! A new system has to prove itself, or the old one comes back.

use anyhow::{Context, Result};
use bento_tests::guest::Features;
use bento_tests::{process, wait};

use super::env::{FaultEnv, QUICK};

/// A machine whose inputs are pinned, so that what has failed for its own sake isn't tried again.
fn pinned() -> Result<FaultEnv> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.pin()?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    Ok(env)
}

impl FaultEnv {
    /// A version that is rolled back for this reason, and isn't tried again.
    #[track_caller]
    fn goes_back_from(&mut self, more: &str, why: &str) -> Result<()> {
        let old = self.whole(true)?.version;
        self.publish(more)?;
        let said = self.update(3)?;
        assert!(said.contains(why), "{why:?} isn't in: {said}");
        let reports = self.expect_reports(&["rolled_back"])?;
        let error = reports[0]["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "{why:?} isn't in: {error}");
        self.is_wholly(&old).with_context(|| more.to_owned())?;
        let status = self.status("rolled-back")?;
        let error = status["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "{why:?} isn't in: {error}");
        let refused = self.update(1)?;
        assert!(refused.contains("is known to have failed"), "{refused}");
        self.is_wholly(&old)
    }
}

/// What would stop the client from its next start on, though it runs to the end of this one. Settings that it doesn't
/// take fail the build already.
#[test]
fn a_system_whose_client_could_not_run_again_is_rolled_back() -> Result<()> {
    let mut env = pinned()?;
    env.goes_back_from(
        "services.bento-client.identityFile = \"/var/lib/bento/another\";",
        "/var/lib/bento/another",
    )
}

#[test]
fn an_unhealthy_system_is_rolled_back_and_not_tried_again() -> Result<()> {
    let mut env = pinned()?;
    env.goes_back_from(
        "services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];",
        "shop",
    )?;
    env.goes_back_from(
        "services.bento-client.health.checks.shop = { command = [ \"/bin/sleep\" \"600\" ]; timeout = \"1s\"; };",
        "shop",
    )?;
    env.goes_back_from(
        "environment.etc.\"bento/health.d/required/till\" = { mode = \"0755\"; text = \"#!/bin/sh\\nexit 1\\n\"; };",
        "till",
    )?;
    env.publish(
        "services.bento-client.health.checks.shop = { command = [ \"/bin/false\" ]; required = false; };",
    )?;
    env.update(0)?;
    let reports = env.expect_reports(&["switched"])?;
    let warning = reports[0]["error"].as_str().unwrap_or_default();
    assert!(warning.contains("shop"), "{warning}");
    env.is_up_to_date()
}

// Issue 10, line 18.
#[test]
fn a_service_that_takes_a_moment_to_listen_is_waited_for() -> Result<()> {
    let patient = r#"
      services.bento-client.confirm.grace = "30s";
      services.bento-client.disk.storeFree = "0B";
    "#;
    let mut env = FaultEnv::with(Features::default(), patient, "")?;
    env.publish(
        r#"
      systemd.services.shop = {
        wantedBy = [ "multi-user.target" ];
        script = "rm -f /run/shop; sleep 3; touch /run/shop; exec sleep infinity";
      };
      services.bento-client.health.checks.shop.command = [ "/usr/bin/test" "-e" "/run/shop" ];
    "#,
    )?;
    env.update(0)?;
    let reports = env.expect_reports(&["switched"])?;
    assert_eq!(reports[0]["error"], serde_json::Value::Null);
    env.is_up_to_date()
}

// Issue 10, line 19.
#[test]
fn a_system_that_breaks_nix_is_rolled_back() -> Result<()> {
    let nix = "build-users-group =\nsandbox = false\nsubstituters =\nflake-registry =\n\
               experimental-features = nix-command flakes\n!include /etc/nix/more.conf\n";
    let common = format!("{QUICK}environment.etc.\"nix/nix.conf\".text = {nix:?};");
    let mut env = FaultEnv::with(Features::default(), &common, "")?;
    env.pin()?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    // A builder and a cache that are away are no reason.
    env.publish(
        "environment.etc.\"nix/more.conf\".text = \"builders = ssh://away.invalid\\nmax-jobs = 0\\n\
         substituters = https://away.invalid\\n\";",
    )?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.vm.guest.shell("rm /etc/nix/more.conf")?.success()?;
    env.publish("")?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.goes_back_from(
        "environment.etc.\"nix/more.conf\".text = \"max-jobs = many\\n\";",
        "'max-jobs' should be",
    )?;
    // What comes next can be built.
    env.publish("")?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}

// Issue 10, line 19: as NixOS has it, with a daemon that builds as users of its own.
#[test]
fn a_system_whose_nix_daemon_does_not_answer_is_rolled_back() -> Result<()> {
    let daemon = r#"
      nix.envVars.NIX_REMOTE = "daemon";
      systemd.services.nix-daemon = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = "/usr/bin/nix-daemon";
      };
    "#;
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    let builders = "groupadd --system nixbld; useradd --system --gid nixbld --groups nixbld nixbld1; \
         sed -i 's/^build-users-group =.*/build-users-group = nixbld/' /etc/nix/nix.conf";
    env.vm.guest.shell(builders)?.success()?;
    env.pin()?;
    env.publish(daemon)?;
    env.update(0)?;
    let reports = env.expect_reports(&["switched"])?;
    assert_eq!(reports[0]["error"], serde_json::Value::Null);
    // By its unit, which builds by way of the daemon.
    env.publish(daemon)?;
    let unit = ["systemctl", "start", "bento-update.service"];
    env.vm.guest.run(unit)?.success()?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;

    let deaf = daemon.replace("/usr/bin/nix-daemon", "/usr/bin/sleep infinity");
    env.goes_back_from(&deaf, "cannot connect to socket")
}

#[test]
fn what_the_switch_says_decides_what_becomes_of_the_new_system() -> Result<()> {
    let mut env = pinned()?;
    env.goes_back_from("standIn.exitCode = 1;", "exit code 1")?;
    let broken = |name: &str| {
        format!(
            "systemd.services.{name} = {{ wantedBy = [ \"multi-user.target\" ]; \
             serviceConfig.Type = \"oneshot\"; script = \"exit 7\"; }};"
        )
    };
    env.goes_back_from(&broken("newly"), "newly.service")?;
    env.goes_back_from("standIn.bootLoader = \"exit 1\";", "boot")?;

    // What was broken before is no reason.
    let unit =
        "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n";
    let guest = &env.vm.guest;
    guest.put_file("/etc/systemd/system/long-since.service", "644", unit)?;
    guest.shell("systemctl enable -q long-since; systemctl start long-since || true")?;
    // The switch starts a target anew only if the system wants something of it.
    env.publish(
        "systemd.services.fine = { wantedBy = [ \"multi-user.target\" ]; script = \"true\"; };",
    )?;
    env.update(0)?;
    let reports = env.expect_reports(&["switched"])?;
    let warning = reports[0]["error"].as_str().unwrap_or_default();
    assert!(warning.contains("long-since.service"), "{warning}");
    env.is_up_to_date()?;
    let guest = &env.vm.guest;
    guest.shell("systemctl disable -q long-since; systemctl reset-failed")?;

    // Another switch is going on: nothing was changed, and the next run tries again.
    let old = env.version();
    env.publish("standIn.exitCode = 11;")?;
    for _ in 0..2 {
        env.update(1)?;
        env.expect_reports(&["activation_failed"])?;
        env.is_wholly(&old)?;
    }
    let refused = env.update(1)?;
    assert!(refused.contains("is tried again after"), "{refused}");

    // Another init can only be booted.
    env.publish("standIn.exitCode = 100;")?;
    env.update(0)?;
    env.expect_reports(&["staged"])?;
    env.status("reboot-pending")?;
    assert_eq!(env.whole(false)?.version, old);
    env.publish("")?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}

#[test]
fn a_configuration_that_kills_the_network_is_rolled_back_and_not_tried_for_ever() -> Result<()> {
    let uplink = |state: &str| {
        format!(
            "systemd.services.uplink = {{ wantedBy = [ \"multi-user.target\" ]; \
             serviceConfig = {{ Type = \"oneshot\"; RemainAfterExit = true; }}; \
             script = \"ip link set host0 {state}\"; }};"
        )
    };
    let network = Features {
        network: true,
        ..Features::default()
    };
    let mut env = FaultEnv::with(network, QUICK, "")?;
    env.pin()?;
    env.publish(&uplink("up"))?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    let old = env.version();
    env.publish(&uplink("down"))?;
    for _ in 0..2 {
        env.update(3)?;
        // By the same run, over the network that has come back.
        let reports = env.expect_reports(&["rolled_back"])?;
        let error = reports[0]["error"].as_str().unwrap_or_default();
        assert!(error.contains("can't be reached"), "{error}");
        env.is_wholly(&old)?;
    }
    let refused = env.update(1)?;
    assert!(refused.contains("is tried again after"), "{refused}");
    env.publish(&uplink("up"))?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}

#[test]
fn the_machine_comes_back_by_itself_when_nobody_confirms() -> Result<()> {
    let common = format!("{QUICK}\nservices.bento-client.rollback.after = \"10s\";");
    let mut env = FaultEnv::with(Features::default(), &common, "")?;
    // The client is dead: the report comes all the same.
    env.publish("")?;
    let halted = env.vm.guest.update_halted_at("confirm")?;
    assert_eq!(env.vm.version()?, "2");
    halted.kill()?;
    env.expect_reports(&["rolled_back"])?;
    env.is_wholly("1")?;
    env.status("rolled-back")?;

    // The client hangs, and holds its lock: the machine comes back, and the client reports it when it goes on.
    env.publish("")?;
    let halted = env.vm.guest.update_halted_at("commit")?;
    wait::until("the machine to come back", process::SHORT, || {
        (env.vm.version().ok()? == "1").then_some(())
    })?;
    let output = halted.go_on()?;
    crate::vm::exits(&output, 3);
    env.expect_reports(&["rolled_back"])?;
    env.is_wholly("1")?;
    env.status("rolled-back")?;
    Ok(())
}

#[test]
fn an_update_changes_its_own_unit_its_timer_and_its_package() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    let run = |env: &FaultEnv| {
        let started = env
            .vm
            .guest
            .run(["systemctl", "start", "bento-update.service"])?;
        started.success().with_context(|| {
            let journal = ["journalctl", "--unit", "bento-update", "--no-pager"];
            let journal = env.vm.guest.run(journal).map(|it| it.stdout);
            journal.unwrap_or_default()
        })
    };
    let program = |env: &FaultEnv| {
        let show = [
            "systemctl",
            "show",
            "--property=ExecStart",
            "--value",
            "bento-update",
        ];
        anyhow::Ok(env.vm.guest.run(show)?.success()?.stdout)
    };
    assert!(program(&env)?.contains("/opt/bento/bin/bento-client"));
    let package = r#"
      services.bento-client.interval = "hourly";
      services.bento-client.package = derivation {
        name = "bento-client-of-its-own";
        system = "ARCH-linux";
        builder = "/bin/sh";
        args = [ "-ec" "PATH=/bin; mkdir -p $out/bin; cp /opt/bento/bin/bento-client $out/bin" ];
      };
    "#
    .replace("ARCH", std::env::consts::ARCH);
    env.publish(&package)?;
    run(&env)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;
    let now = program(&env)?;
    assert!(now.contains("bento-client-of-its-own"), "{now}");
    let timer = env
        .vm
        .guest
        .read_file("/etc/systemd/system/bento-update.timer")?;
    assert!(timer.contains("OnCalendar=hourly"), "{timer}");
    // And back, by the new one.
    env.publish("")?;
    run(&env)?;
    env.expect_reports(&["switched"])?;
    assert!(program(&env)?.contains("/opt/bento/bin/bento-client"));
    env.is_up_to_date()
}
