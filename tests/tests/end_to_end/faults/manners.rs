//! What an update owes others: another run, the machine's owner, its administrator, the clock, and wherever its state lies.

use anyhow::Result;
use bento_tests::guest::Features;

use super::ground::{Ground, QUICK};
use crate::computer::exits;

#[test]
fn one_run_at_a_time_and_neither_sleep_nor_shutdown_from_arm_to_commit() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    ground.publish("")?;
    let guest = &ground.computer.guest;
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
    ground.tells(&["switched"])?;
    ground.is_up_to_date()
}

#[test]
fn what_fails_to_build_is_built_again_when_it_changes_or_somebody_says_so() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    ground.pin()?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.publish("environment.etc.broken.text = pkgz.hello;")?;
    let failed = ground.update(1)?;
    assert!(failed.contains("undefined variable 'pkgz'"), "{failed}");
    ground.tells(&["build_failed"])?;
    ground.status("failing")?;
    // At once, and then ever more rarely.
    ground.update(1)?;
    ground.tells(&["build_failed"])?;
    let refused = ground.update(1)?;
    assert!(refused.contains("is tried again after"), "{refused}");
    ground.is_wholly("1")?;
    let retry = ["bento-client", "update", "--retry"];
    exits(&ground.computer.guest.run(retry)?, 1);
    ground.tells(&["build_failed"])?;
    ground.publish("")?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()
}

#[test]
fn an_owner_can_ask_for_quiet_and_go_back_by_hand() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    let client = |ground: &Ground, arguments: &[&str]| {
        let command = ["bento-client"].iter().chain(arguments);
        ground.computer.guest.run(command)?.success()
    };
    let first = ground.computer.system()?;
    client(&ground, &["hold", "--for", "1h"])?;
    ground.publish("")?;
    ground.update(0)?;
    let told = ground.tells(&["unchanged"])?;
    assert!(told[0]["held"].is_string(), "{}", told[0]);
    let status = ground.status("rebuild-pending")?;
    assert!(status["held"].is_string(), "{status}");
    ground.is_wholly("1")?;
    client(&ground, &["hold", "off"])?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;

    // The generation isn't installed again until it changes.
    client(&ground, &["rollback"])?;
    for _ in 0..2 {
        ground.update(0)?;
        assert_eq!(ground.computer.system()?, first);
    }
    ground.tells(&["unchanged"])?;
    ground.status("drifted")?;
    ground.publish("")?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()
}

#[test]
fn an_hour_that_the_clock_is_wrong_changes_nothing() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    for seconds in [3600, -3600] {
        ground.publish("")?;
        let update = ["bento-client", "update"];
        exits(&ground.computer.guest.run_with_clock(seconds, update)?, 0);
        ground.tells(&["switched"])?;
        ground.is_up_to_date()?;
        // With the right time again there is nothing to do.
        ground.update(0)?;
        ground.is_up_to_date()?;
    }
    Ok(())
}

// Issue 10, line 23. The guest's Nix takes no flake through a link, as Nix since 2.20 doesn't.
#[test]
fn the_state_may_lie_on_another_disk_behind_a_link() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    let move_it = "mkdir /srv/disk && mv /var/lib/bento /srv/disk/bento && ln -s /srv/disk/bento /var/lib/bento";
    ground.computer.guest.shell(move_it)?.success()?;
    ground.publish("")?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;
    // By its unit, too: systemd doesn't follow the link for a StateDirectory=.
    ground.publish("")?;
    let unit = ["systemctl", "start", "bento-update.service"];
    ground.computer.guest.run(unit)?.success()?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;

    ground.publish("services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];")?;
    ground.update(3)?;
    ground.tells(&["rolled_back"])?;
    ground.is_wholly("3")?;
    ground.computer.guest.reboot()?;
    ground.is_wholly("3")?;
    let is_link = ["test", "-L", "/var/lib/bento"];
    ground.computer.guest.run(is_link)?.success()?;
    Ok(())
}
