//! What takes effect at a boot, and who reboots when.

use anyhow::Result;
use bento_tests::guest::Features;
use jiff::{Timestamp, ToSpan};

use super::env::{FaultEnv, NAME, QUICK};

#[test]
fn a_system_that_is_staged_is_confirmed_by_its_boot_or_goes_back_by_another() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    // The system that brings it is the first that is staged. Issue 10, line 31.
    env.common += "services.bento-client.operation = \"boot\";";
    env.publish("")?;
    env.update(0)?;
    env.expect_reports(&["staged"])?;
    env.status("reboot-pending")?;
    let whole = env.whole(false)?;
    assert_eq!(whole.version, "1");
    // The boot finds the new secrets in place, before any client has been started by a timer.
    env.vm.guest.reboot()?;
    assert_eq!(env.whole(true)?.version, "2");
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;

    let sick = "services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];";
    env.publish(sick)?;
    env.update(0)?;
    env.expect_reports(&["staged"])?;
    env.vm.guest.reboot()?;
    assert_eq!(env.whole(true)?.version, "3");
    let boot = env.vm.guest.boot_id()?;
    // It reboots by itself.
    env.vm.update()?;
    env.vm.guest.await_another_boot(&boot)?;
    assert_eq!(env.whole(true)?.version, "2");
    env.vm.update()?;
    env.expect_reports(&["rolled_back"])?;
    let status = env.status("rolled-back")?;
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("shop"), "{error}");
    env.is_wholly("2")
}

// Issue 10, line 15.
#[test]
fn a_boot_proves_itself_however_slow_it_was() -> Result<()> {
    // The timer's minute is shorter than the boot takes.
    let slow = r#"
        services.bento-client.operation = "boot";
        systemd.services.slow = {
          wantedBy = [ "sysinit.target" ];
          before = [ "sysinit.target" ];
          unitConfig.DefaultDependencies = false;
          serviceConfig.Type = "oneshot";
          script = "sleep 3";
        };
        systemd.timers.bento-update-boot.timerConfig = builtins.mapAttrs
          (_: content: { _type = "override"; priority = 50; inherit content; })
          { OnActiveSec = "1s"; RandomizedDelaySec = "0"; };
    "#;
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.common += slow;
    // By hand goes everything but what a boot starts.
    let by_itself = "rm /etc/systemd/system/bento-update-boot.timer.d/by-hand.conf";
    env.vm.guest.shell(by_itself)?.success()?;
    // The second boot finds what systemd remembers of the timers of the first.
    for _ in 0..2 {
        env.publish("")?;
        env.update(0)?;
        env.expect_reports(&["staged"])?;
        env.vm.guest.reboot()?;
        env.expect_reports(&["switched"])?;
        env.is_up_to_date()?;
    }
    Ok(())
}

// Issue 10, line 20.
#[test]
fn the_secrets_of_a_boot_are_there_before_its_users_are_made() -> Result<()> {
    // The snippet's name comes before those of all others.
    let common = r#"
        services.bento-client.operation = "boot";
        system.activationScripts.a-reader = {
          deps = [ "users" ];
          text = "cat /var/lib/bento/secrets/token > /run/token-at-activation || true";
        };
    "#;
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.common += common;
    let boot = |env: &mut FaultEnv, version: &str| -> Result<()> {
        env.update(0)?;
        env.expect_reports(&["staged"])?;
        env.vm.guest.reboot()?;
        assert_eq!(env.whole(true)?.version, version);
        let guest = &env.vm.guest;
        assert_eq!(guest.read_file("/run/token-at-activation")?, version);
        Ok(())
    };
    let password = |env: &FaultEnv, name: &str| -> Result<String> {
        let entry = ["getent", "shadow", name];
        let entry = env.vm.guest.run(entry)?.success()?.stdout;
        Ok(entry.split(':').nth(1).unwrap_or_default().to_owned())
    };
    let user = |name: &str| {
        format!("users.users.{name}.hashedPasswordFile = \"/var/lib/bento/secrets/{name}\";")
    };
    let secret = |env: &FaultEnv, name: &str, hash: &str| {
        let path = format!("bento-secrets/{NAME}/{name}");
        env.fleet.write(&path, hash)
    };
    secret(&env, "alice", "$y$j9T$alice")?;
    env.publish(&user("alice"))?;
    boot(&mut env, "2")?;
    assert_eq!(password(&env, "alice")?, "$y$j9T$alice");
    env.update(0)?;
    env.expect_reports(&["switched"])?;

    // Where the boot goes back, so do the secrets: by then, too.
    secret(&env, "bob", "$y$j9T$bob")?;
    let sick = "services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];";
    env.publish(&format!("{} {} {sick}", user("alice"), user("bob")))?;
    boot(&mut env, "3")?;
    assert_eq!(password(&env, "bob")?, "$y$j9T$bob");
    let booted = env.vm.guest.boot_id()?;
    env.vm.update()?;
    env.vm.guest.await_another_boot(&booted)?;
    assert_eq!(env.whole(true)?.version, "2");
    let guest = &env.vm.guest;
    assert_eq!(guest.read_file("/run/token-at-activation")?, "2");
    env.vm.update()?;
    env.expect_reports(&["rolled_back"])?;
    env.is_wholly("2")
}

#[test]
fn a_new_kernel_reboots_a_machine_at_once_and_only_once() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "reboot = \"immediate\"\n")?;
    let before = env.vm.guest.boot_id()?;
    env.change_kernel();
    env.publish("")?;
    env.vm.update()?;
    env.vm.guest.await_another_boot(&before)?;
    // Before it rebooted it had reported why.
    let reports = env.expect_reports(&["switched"])?;
    assert_eq!(reports[0]["reboot_required"], true);
    // The boot is proven as well.
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;

    // Somehow the boot didn't lead to the new kernel.
    let boot = env.vm.guest.boot_id()?;
    let old = "ln -sfn \"$(readlink -f /nix/var/nix/profiles/system-1-link)\" /run/booted-system";
    env.vm.guest.shell(old)?.success()?;
    let said = env.update(0)?;
    assert!(said.contains("isn't rebooted again"), "{said}");
    env.expect_reports(&["unchanged"])?;
    env.status("reboot-pending")?;
    assert_eq!(env.vm.guest.boot_id()?, boot);
    Ok(())
}

#[test]
fn a_new_kernel_that_works_until_it_is_booted_goes_back() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "reboot = \"immediate\"\n")?;
    let before = env.vm.guest.boot_id()?;
    env.change_kernel();
    // As a driver that the new kernel lacks: nobody misses it before the boot.
    env.publish(
        "services.bento-client.health.checks.driver.command = [ \"/bin/sh\" \"-c\" \
         \"[ \\\"$(readlink -f /run/booted-system)\\\" != \\\"$(readlink -f /run/current-system)\\\" ]\" ];",
    )?;
    env.vm.update()?;
    env.vm.guest.await_another_boot(&before)?;
    env.expect_reports(&["switched"])?;
    assert_eq!(env.whole(true)?.version, "2");
    let booted = env.vm.guest.boot_id()?;
    // It reboots by itself.
    env.vm.update()?;
    env.vm.guest.await_another_boot(&booted)?;
    assert_eq!(env.whole(true)?.version, "1");
    env.vm.update()?;
    env.expect_reports(&["rolled_back"])?;
    let status = env.status("rolled-back")?;
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("driver"), "{error}");
    env.is_wholly("1")
}

#[test]
fn a_machine_waits_for_its_window_to_reboot() -> Result<()> {
    // The guest's local time is UTC.
    let at = |hours: i64| Timestamp::now().checked_add(hours.hours());
    let window = format!(
        "reboot = \"window\"\nreboot_window = {{ from = \"{}\", to = \"{}\" }}\n",
        at(2)?.strftime("%H:%M"),
        at(4)?.strftime("%H:%M")
    );
    let mut env = FaultEnv::with(Features::default(), QUICK, &window)?;
    let boot = env.vm.guest.boot_id()?;
    env.change_kernel();
    env.publish("")?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.status("reboot-pending")?;
    let ask = ["bento-client", "reboot-if-needed"];
    env.vm.guest.run(ask)?.success()?;
    env.is_wholly("2")?;
    assert_eq!(env.vm.guest.boot_id()?, boot);

    env.vm.guest.run_with_clock(3 * 3600, ask)?;
    env.vm.guest.await_another_boot(&boot)?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;
    Ok(())
}

// Issue 10, line 16.
#[test]
fn what_may_only_be_booted_by_its_own_check_is_staged_and_says_why() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    let bus = |one: &str| format!("system.switch.inhibitors.dbus-implementation = \"{one}\";");
    env.publish(&bus("dbus"))?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.publish(&bus("broker"))?;
    env.update(0)?;
    let reports = env.expect_reports(&["staged"])?;
    let why = reports[0]["error"].as_str().unwrap_or_default();
    assert!(
        why.contains("dbus-implementation : dbus -> broker"),
        "{why}"
    );
    env.status("reboot-pending")?;
    assert_eq!(env.whole(false)?.version, "2");
    env.vm.guest.reboot()?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()?;

    // What another check says is a failure; and on the way back it says nothing.
    env.publish(&format!(
        "{}system.preSwitchChecks.shop = \"false\";",
        bus("broker")
    ))?;
    env.update(3)?;
    env.expect_reports(&["rolled_back"])?;
    env.is_wholly("3")?;
    env.common += "system.preSwitchChecks.shop = \"[ ! -e /run/closed ]\";";
    env.publish(&bus("broker"))?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    let closes = "system.activationScripts.close = \"touch /run/closed\";\
                  services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];";
    env.publish(&format!("{}{closes}", bus("broker")))?;
    env.update(3)?;
    env.expect_reports(&["rolled_back"])?;
    env.is_wholly("5")
}

// Issue 10, line 31: by the settings of the system that is booted, and those are the new one's.
#[test]
fn a_system_that_wants_no_kexec_is_not_jumped_into() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "reboot = \"immediate\"\n")?;
    // The files that show how the machine was to go down.
    let systemctl = r#"#!/bin/sh
        case " $* " in *" kexec "*|*" reboot "*) echo "$*" >>/var/lib/asked; exit 0 ;; esac
        exec /usr/bin/systemctl "$@"
    "#;
    let guest = &env.vm.guest;
    guest.put_file("/opt/bento/bin/systemctl", "755", systemctl)?;
    let kexec =
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo 1 >/sys/kernel/kexec_loaded'\n";
    guest.put_file("/etc/systemd/system/prepare-kexec.service", "644", kexec)?;
    // No kernel can be loaded in a container; it only says so.
    guest
        .shell("mount -t tmpfs tmpfs /sys/kernel; systemctl daemon-reload")?
        .success()?;
    env.change_kernel();
    env.publish("services.bento-client.reboot.kexec = false;")?;
    env.update(0)?;
    let asked = env.vm.guest.read_file("/var/lib/asked")?;
    assert!(
        asked.contains("reboot") && !asked.contains("kexec"),
        "{asked}"
    );
    Ok(())
}
