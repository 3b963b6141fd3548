//! What an update owes others: another run, the machine's owner, its administrator, the clock, and wherever its state lies.

use anyhow::Result;
use bento_tests::guest::Features;

use super::env::{FaultEnv, QUICK};
use crate::vm::exits;

#[test]
fn one_run_at_a_time_and_neither_sleep_nor_shutdown_from_arm_to_commit() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.publish("")?;
    let guest = &env.vm.guest;
    let inhibited = || {
        let list = ["systemd-inhibit", "--list", "--no-legend", "--no-pager"];
        let listed = guest.run(list)?.success()?.stdout;
        let ours = listed.lines().find(|line| line.contains("bento"));
        anyhow::Ok(ours.is_some_and(|line| {
            assert!(
                line.contains("sleep:shutdown") || line.contains("shutdown:sleep"),
                "{line}"
            );
            assert!(line.contains("block"), "{line}");
            true
        }))
    };
    let mut halted = guest.update_halted_at("build")?;
    let holder = guest.read_file("/var/lib/bento/lock")?;
    for command in ["update", "rollback", "reboot-if-needed"] {
        let second = guest.run(["bento-client", command])?;
        exits(&second, 5);
        assert!(second.stderr.contains(holder.trim()), "{}", second.stderr);
    }
    for (phase, expected) in [
        ("arm", false),
        ("activate", true),
        ("confirm", true),
        ("commit", true),
        ("report", false),
    ] {
        halted.go_on_to(phase)?;
        assert_eq!(inhibited()?, expected, "{phase}");
    }
    exits(&halted.go_on()?, 0);
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}

#[test]
fn what_fails_to_build_is_built_again_when_it_changes_or_somebody_says_so() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.pin()?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.publish("environment.etc.broken.text = pkgz.hello;")?;
    let failed = env.update(1)?;
    assert!(failed.contains("undefined variable 'pkgz'"), "{failed}");
    env.expect_reports(&["build_failed"])?;
    env.status("failing")?;
    // At once, and then ever more rarely.
    env.update(1)?;
    env.expect_reports(&["build_failed"])?;
    let refused = env.update(1)?;
    assert!(refused.contains("is tried again after"), "{refused}");
    env.is_wholly("1")?;
    let retry = ["bento-client", "update", "--retry"];
    exits(&env.vm.guest.run(retry)?, 1);
    env.expect_reports(&["build_failed"])?;
    env.publish("")?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}

#[test]
fn an_owner_can_ask_for_quiet_and_go_back_by_hand() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    let client = |env: &FaultEnv, arguments: &[&str]| {
        let command = ["bento-client"].iter().chain(arguments);
        env.vm.guest.run(command)?.success()
    };
    let first = env.vm.system()?;
    client(&env, &["hold", "--for", "1h"])?;
    env.publish("")?;
    env.update(0)?;
    let reports = env.expect_reports(&["unchanged"])?;
    assert!(reports[0]["held"].is_string(), "{}", reports[0]);
    let status = env.status("rebuild-pending")?;
    assert!(status["held"].is_string(), "{status}");
    env.is_wholly("1")?;
    client(&env, &["hold", "off"])?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;

    // The generation isn't installed again until it changes.
    client(&env, &["rollback"])?;
    for _ in 0..2 {
        env.update(0)?;
        assert_eq!(env.vm.system()?, first);
    }
    env.expect_reports(&["unchanged"])?;
    env.status("drifted")?;
    env.publish("")?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}

#[test]
fn an_hour_that_the_clock_is_wrong_changes_nothing() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    for seconds in [3600, -3600] {
        env.publish("")?;
        let update = ["bento-client", "update"];
        exits(&env.vm.guest.run_with_clock(seconds, update)?, 0);
        env.expect_reports(&["switched"])?;
        env.is_up_to_date()?;
        // With the right time again there is nothing to do.
        env.update(0)?;
        env.is_up_to_date()?;
    }
    Ok(())
}

// Issue 10, line 23. The guest's Nix takes no flake through a link, as Nix since 2.20 doesn't.
#[test]
fn the_state_may_lie_on_another_disk_behind_a_link() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    let move_it = "mkdir /srv/disk && mv /var/lib/bento /srv/disk/bento && ln -s /srv/disk/bento /var/lib/bento";
    env.vm.guest.shell(move_it)?.success()?;
    env.publish("")?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;
    // By its unit, too: systemd doesn't follow the link for a StateDirectory=.
    env.publish("")?;
    let unit = ["systemctl", "start", "bento-update.service"];
    env.vm.guest.run(unit)?.success()?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;

    env.publish("services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];")?;
    env.update(3)?;
    env.expect_reports(&["rolled_back"])?;
    env.is_wholly("3")?;
    env.vm.guest.reboot()?;
    env.is_wholly("3")?;
    let is_link = ["test", "-L", "/var/lib/bento"];
    env.vm.guest.run(is_link)?.success()?;
    Ok(())
}
