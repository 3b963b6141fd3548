//! A new system has to prove itself, or the old one comes back.

use anyhow::{Context, Result};
use bento_tests::guest::Features;
use bento_tests::{process, wait};

use super::ground::{Ground, QUICK};

/// A machine whose inputs are pinned, so that what has failed for its own sake isn't tried again.
fn pinned() -> Result<Ground> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    ground.pin()?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    Ok(ground)
}

impl Ground {
    /// A version that is rolled back for this reason, and isn't tried again.
    #[track_caller]
    fn goes_back_from(&mut self, more: &str, why: &str) -> Result<()> {
        let old = self.whole(true)?.version;
        self.publish(more)?;
        let said = self.update(3)?;
        assert!(said.contains(why), "{why:?} isn't in: {said}");
        let told = self.tells(&["rolled_back"])?;
        let error = told[0]["error"].as_str().unwrap_or_default();
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
    let mut ground = pinned()?;
    ground.goes_back_from(
        "services.bento-client.identityFile = \"/var/lib/bento/another\";",
        "/var/lib/bento/another",
    )
}

#[test]
fn an_unhealthy_system_is_rolled_back_and_not_tried_again() -> Result<()> {
    let mut ground = pinned()?;
    ground.goes_back_from(
        "services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];",
        "shop",
    )?;
    ground.goes_back_from(
        "services.bento-client.health.checks.shop = { command = [ \"/bin/sleep\" \"600\" ]; timeout = \"1s\"; };",
        "shop",
    )?;
    ground.goes_back_from(
        "environment.etc.\"bento/health.d/required/till\" = { mode = \"0755\"; text = \"#!/bin/sh\\nexit 1\\n\"; };",
        "till",
    )?;
    ground.publish(
        "services.bento-client.health.checks.shop = { command = [ \"/bin/false\" ]; required = false; };",
    )?;
    ground.update(0)?;
    let told = ground.tells(&["switched"])?;
    let warning = told[0]["error"].as_str().unwrap_or_default();
    assert!(warning.contains("shop"), "{warning}");
    ground.is_up_to_date()
}

// Issue 10, line 18.
#[test]
fn a_service_that_takes_a_moment_to_listen_is_waited_for() -> Result<()> {
    let patient = r#"
      services.bento-client.confirm.grace = "30s";
      services.bento-client.disk.storeFree = "0B";
    "#;
    let mut ground = Ground::with(Features::default(), patient, "")?;
    ground.publish(
        r#"
      systemd.services.shop = {
        wantedBy = [ "multi-user.target" ];
        script = "rm -f /run/shop; sleep 3; touch /run/shop; exec sleep infinity";
      };
      services.bento-client.health.checks.shop.command = [ "/usr/bin/test" "-e" "/run/shop" ];
    "#,
    )?;
    ground.update(0)?;
    let told = ground.tells(&["switched"])?;
    assert_eq!(told[0]["error"], serde_json::Value::Null);
    ground.is_up_to_date()
}

// Issue 10, line 19.
#[test]
fn a_system_that_breaks_nix_is_rolled_back() -> Result<()> {
    let nix = "build-users-group =\nsandbox = false\nsubstituters =\nflake-registry =\n\
               experimental-features = nix-command flakes\n!include /etc/nix/more.conf\n";
    let common = format!("{QUICK}environment.etc.\"nix/nix.conf\".text = {nix:?};");
    let mut ground = Ground::with(Features::default(), &common, "")?;
    ground.pin()?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    // A builder and a cache that are away are no reason.
    ground.publish(
        "environment.etc.\"nix/more.conf\".text = \"builders = ssh://away.invalid\\nmax-jobs = 0\\n\
         substituters = https://away.invalid\\n\";",
    )?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground
        .computer
        .guest
        .shell("rm /etc/nix/more.conf")?
        .success()?;
    ground.publish("")?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.goes_back_from(
        "environment.etc.\"nix/more.conf\".text = \"max-jobs = many\\n\";",
        "'max-jobs' should be",
    )?;
    // What comes next can be built.
    ground.publish("")?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()
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
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    let builders = "groupadd --system nixbld; useradd --system --gid nixbld --groups nixbld nixbld1; \
         sed -i 's/^build-users-group =.*/build-users-group = nixbld/' /etc/nix/nix.conf";
    ground.computer.guest.shell(builders)?.success()?;
    ground.pin()?;
    ground.publish(daemon)?;
    ground.update(0)?;
    let told = ground.tells(&["switched"])?;
    assert_eq!(told[0]["error"], serde_json::Value::Null);
    // By its unit, which builds by way of the daemon.
    ground.publish(daemon)?;
    let unit = ["systemctl", "start", "bento-update.service"];
    ground.computer.guest.run(unit)?.success()?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;

    let deaf = daemon.replace("/usr/bin/nix-daemon", "/usr/bin/sleep infinity");
    ground.goes_back_from(&deaf, "cannot connect to socket")
}

#[test]
fn what_the_switch_says_decides_what_becomes_of_the_new_system() -> Result<()> {
    let mut ground = pinned()?;
    ground.goes_back_from("standIn.exitCode = 1;", "exit code 1")?;
    let broken = |name: &str| {
        format!(
            "systemd.services.{name} = {{ wantedBy = [ \"multi-user.target\" ]; \
             serviceConfig.Type = \"oneshot\"; script = \"exit 7\"; }};"
        )
    };
    ground.goes_back_from(&broken("newly"), "newly.service")?;
    ground.goes_back_from("standIn.bootLoader = \"exit 1\";", "boot")?;

    // What was broken before is no reason.
    let unit =
        "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n";
    let guest = &ground.computer.guest;
    guest.put_file("/etc/systemd/system/long-since.service", "644", unit)?;
    guest.shell("systemctl enable -q long-since; systemctl start long-since || true")?;
    // The switch starts a target anew only if the system wants something of it.
    ground.publish(
        "systemd.services.fine = { wantedBy = [ \"multi-user.target\" ]; script = \"true\"; };",
    )?;
    ground.update(0)?;
    let told = ground.tells(&["switched"])?;
    let warning = told[0]["error"].as_str().unwrap_or_default();
    assert!(warning.contains("long-since.service"), "{warning}");
    ground.is_up_to_date()?;
    let guest = &ground.computer.guest;
    guest.shell("systemctl disable -q long-since; systemctl reset-failed")?;

    // Another switch is going on: nothing was changed, and the next run tries again.
    let old = ground.version();
    ground.publish("standIn.exitCode = 11;")?;
    for _ in 0..2 {
        ground.update(1)?;
        ground.tells(&["activation_failed"])?;
        ground.is_wholly(&old)?;
    }
    let refused = ground.update(1)?;
    assert!(refused.contains("is tried again after"), "{refused}");

    // Another init can only be booted.
    ground.publish("standIn.exitCode = 100;")?;
    ground.update(0)?;
    ground.tells(&["staged"])?;
    ground.status("reboot-pending")?;
    assert_eq!(ground.whole(false)?.version, old);
    ground.publish("")?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()
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
    let mut ground = Ground::with(network, QUICK, "")?;
    ground.pin()?;
    ground.publish(&uplink("up"))?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    let old = ground.version();
    ground.publish(&uplink("down"))?;
    for _ in 0..2 {
        ground.update(3)?;
        // By the same run, over the network that has come back.
        let told = ground.tells(&["rolled_back"])?;
        let error = told[0]["error"].as_str().unwrap_or_default();
        assert!(error.contains("can't be reached"), "{error}");
        ground.is_wholly(&old)?;
    }
    let refused = ground.update(1)?;
    assert!(refused.contains("is tried again after"), "{refused}");
    ground.publish(&uplink("up"))?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()
}

#[test]
fn the_machine_comes_back_by_itself_when_nobody_confirms() -> Result<()> {
    let common = format!("{QUICK}\nservices.bento-client.rollback.after = \"10s\";");
    let mut ground = Ground::with(Features::default(), &common, "")?;
    // The client is dead: the report comes all the same.
    ground.publish("")?;
    let halted = ground.computer.guest.update_halted_at("confirm")?;
    assert_eq!(ground.computer.version()?, "2");
    halted.kill()?;
    ground.tells(&["rolled_back"])?;
    ground.is_wholly("1")?;
    ground.status("rolled-back")?;

    // The client hangs, and holds its lock: the machine comes back, and is told of when it goes on.
    ground.publish("")?;
    let halted = ground.computer.guest.update_halted_at("commit")?;
    wait::until("the machine to come back", process::SHORT, || {
        (ground.computer.version().ok()? == "1").then_some(())
    })?;
    let output = halted.go_on()?;
    crate::computer::exits(&output, 3);
    ground.tells(&["rolled_back"])?;
    ground.is_wholly("1")?;
    ground.status("rolled-back")?;
    Ok(())
}

#[test]
fn an_update_changes_its_own_unit_its_timer_and_its_package() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    let run = |ground: &Ground| {
        let started = ground
            .computer
            .guest
            .run(["systemctl", "start", "bento-update.service"])?;
        started.success().with_context(|| {
            let journal = ["journalctl", "--unit", "bento-update", "--no-pager"];
            let journal = ground.computer.guest.run(journal).map(|it| it.stdout);
            journal.unwrap_or_default()
        })
    };
    let program = |ground: &Ground| {
        let show = [
            "systemctl",
            "show",
            "--property=ExecStart",
            "--value",
            "bento-update",
        ];
        anyhow::Ok(ground.computer.guest.run(show)?.success()?.stdout)
    };
    assert!(program(&ground)?.contains("/opt/bento/bin/bento-client"));
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
    ground.publish(&package)?;
    run(&ground)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;
    let now = program(&ground)?;
    assert!(now.contains("bento-client-of-its-own"), "{now}");
    let timer = ground
        .computer
        .guest
        .read_file("/etc/systemd/system/bento-update.timer")?;
    assert!(timer.contains("OnCalendar=hourly"), "{timer}");
    // And back, by the new one.
    ground.publish("")?;
    run(&ground)?;
    ground.tells(&["switched"])?;
    assert!(program(&ground)?.contains("/opt/bento/bin/bento-client"));
    ground.is_up_to_date()
}
