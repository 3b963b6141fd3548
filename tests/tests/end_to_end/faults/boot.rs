//! What takes effect at a boot, and who reboots when.

use anyhow::Result;
use bento_tests::guest::Features;
use jiff::{Timestamp, ToSpan};

use super::ground::{Ground, NAME, QUICK};

#[test]
fn a_system_that_is_staged_is_confirmed_by_its_boot_or_goes_back_by_another() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    // The system that brings it is the first that is staged. Issue 10, line 31.
    ground.common += "services.bento-client.operation = \"boot\";";
    ground.publish("")?;
    ground.update(0)?;
    ground.tells(&["staged"])?;
    ground.status("reboot-pending")?;
    let whole = ground.whole(false)?;
    assert_eq!(whole.version, "1");
    // The boot finds the new secrets in place, before any client has been started by a timer.
    ground.computer.guest.reboot()?;
    assert_eq!(ground.whole(true)?.version, "2");
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;

    let sick = "services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];";
    ground.publish(sick)?;
    ground.update(0)?;
    ground.tells(&["staged"])?;
    ground.computer.guest.reboot()?;
    assert_eq!(ground.whole(true)?.version, "3");
    let boot = ground.computer.guest.boot_id()?;
    // It reboots by itself.
    ground.computer.update()?;
    ground.computer.guest.await_another_boot(&boot)?;
    assert_eq!(ground.whole(true)?.version, "2");
    ground.computer.update()?;
    ground.tells(&["rolled_back"])?;
    let told = ground.status("rolled-back")?;
    let error = told["error"].as_str().unwrap_or_default();
    assert!(error.contains("shop"), "{error}");
    ground.is_wholly("2")
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
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    ground.common += slow;
    // By hand goes everything but what a boot starts.
    let by_itself = "rm /etc/systemd/system/bento-update-boot.timer.d/by-hand.conf";
    ground.computer.guest.shell(by_itself)?.success()?;
    // The second boot finds what systemd remembers of the timers of the first.
    for _ in 0..2 {
        ground.publish("")?;
        ground.update(0)?;
        ground.tells(&["staged"])?;
        ground.computer.guest.reboot()?;
        ground.tells(&["switched"])?;
        ground.is_up_to_date()?;
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
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    ground.common += common;
    let boot = |ground: &mut Ground, version: &str| -> Result<()> {
        ground.update(0)?;
        ground.tells(&["staged"])?;
        ground.computer.guest.reboot()?;
        assert_eq!(ground.whole(true)?.version, version);
        let guest = &ground.computer.guest;
        assert_eq!(guest.read_file("/run/token-at-activation")?, version);
        Ok(())
    };
    let password = |ground: &Ground, name: &str| -> Result<String> {
        let entry = ["getent", "shadow", name];
        let entry = ground.computer.guest.run(entry)?.success()?.stdout;
        Ok(entry.split(':').nth(1).unwrap_or_default().to_owned())
    };
    let user = |name: &str| {
        format!("users.users.{name}.hashedPasswordFile = \"/var/lib/bento/secrets/{name}\";")
    };
    let secret = |ground: &Ground, name: &str, hash: &str| {
        let path = format!("bento-secrets/{NAME}/{name}");
        ground.fleet.write(&path, hash)
    };
    secret(&ground, "alice", "$y$j9T$alice")?;
    ground.publish(&user("alice"))?;
    boot(&mut ground, "2")?;
    assert_eq!(password(&ground, "alice")?, "$y$j9T$alice");
    ground.update(0)?;
    ground.tells(&["switched"])?;

    // Where the boot goes back, so do the secrets: by then, too.
    secret(&ground, "bob", "$y$j9T$bob")?;
    let sick = "services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];";
    ground.publish(&format!("{} {} {sick}", user("alice"), user("bob")))?;
    boot(&mut ground, "3")?;
    assert_eq!(password(&ground, "bob")?, "$y$j9T$bob");
    let booted = ground.computer.guest.boot_id()?;
    ground.computer.update()?;
    ground.computer.guest.await_another_boot(&booted)?;
    assert_eq!(ground.whole(true)?.version, "2");
    let guest = &ground.computer.guest;
    assert_eq!(guest.read_file("/run/token-at-activation")?, "2");
    ground.computer.update()?;
    ground.tells(&["rolled_back"])?;
    ground.is_wholly("2")
}

#[test]
fn a_new_kernel_reboots_a_machine_at_once_and_only_once() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "reboot = \"immediate\"\n")?;
    let before = ground.computer.guest.boot_id()?;
    ground.change_kernel();
    ground.publish("")?;
    ground.computer.update()?;
    ground.computer.guest.await_another_boot(&before)?;
    // Before it rebooted it had told why.
    let told = ground.tells(&["switched"])?;
    assert_eq!(told[0]["reboot_required"], true);
    // The boot is proven as well.
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;

    // Somehow the boot didn't lead to the new kernel.
    let boot = ground.computer.guest.boot_id()?;
    let old = "ln -sfn \"$(readlink -f /nix/var/nix/profiles/system-1-link)\" /run/booted-system";
    ground.computer.guest.shell(old)?.success()?;
    let said = ground.update(0)?;
    assert!(said.contains("isn't rebooted again"), "{said}");
    ground.tells(&["unchanged"])?;
    ground.status("reboot-pending")?;
    assert_eq!(ground.computer.guest.boot_id()?, boot);
    Ok(())
}

#[test]
fn a_new_kernel_that_works_until_it_is_booted_goes_back() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "reboot = \"immediate\"\n")?;
    let before = ground.computer.guest.boot_id()?;
    ground.change_kernel();
    // As a driver that the new kernel lacks: nobody misses it before the boot.
    ground.publish(
        "services.bento-client.health.checks.driver.command = [ \"/bin/sh\" \"-c\" \
         \"[ \\\"$(readlink -f /run/booted-system)\\\" != \\\"$(readlink -f /run/current-system)\\\" ]\" ];",
    )?;
    ground.computer.update()?;
    ground.computer.guest.await_another_boot(&before)?;
    ground.tells(&["switched"])?;
    assert_eq!(ground.whole(true)?.version, "2");
    let booted = ground.computer.guest.boot_id()?;
    // It reboots by itself.
    ground.computer.update()?;
    ground.computer.guest.await_another_boot(&booted)?;
    assert_eq!(ground.whole(true)?.version, "1");
    ground.computer.update()?;
    ground.tells(&["rolled_back"])?;
    let told = ground.status("rolled-back")?;
    let error = told["error"].as_str().unwrap_or_default();
    assert!(error.contains("driver"), "{error}");
    ground.is_wholly("1")
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
    let mut ground = Ground::with(Features::default(), QUICK, &window)?;
    let boot = ground.computer.guest.boot_id()?;
    ground.change_kernel();
    ground.publish("")?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.status("reboot-pending")?;
    let ask = ["bento-client", "reboot-if-needed"];
    ground.computer.guest.run(ask)?.success()?;
    ground.is_wholly("2")?;
    assert_eq!(ground.computer.guest.boot_id()?, boot);

    ground.computer.guest.run_with_clock(3 * 3600, ask)?;
    ground.computer.guest.await_another_boot(&boot)?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;
    Ok(())
}

// Issue 10, line 16.
#[test]
fn what_may_only_be_booted_by_its_own_check_is_staged_and_says_why() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "")?;
    let bus = |one: &str| format!("system.switch.inhibitors.dbus-implementation = \"{one}\";");
    ground.publish(&bus("dbus"))?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.publish(&bus("broker"))?;
    ground.update(0)?;
    let told = ground.tells(&["staged"])?;
    let why = told[0]["error"].as_str().unwrap_or_default();
    assert!(
        why.contains("dbus-implementation : dbus -> broker"),
        "{why}"
    );
    ground.status("reboot-pending")?;
    assert_eq!(ground.whole(false)?.version, "2");
    ground.computer.guest.reboot()?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    ground.is_up_to_date()?;

    // What another check says is a failure; and on the way back it says nothing.
    ground.publish(&format!(
        "{}system.preSwitchChecks.shop = \"false\";",
        bus("broker")
    ))?;
    ground.update(3)?;
    ground.tells(&["rolled_back"])?;
    ground.is_wholly("3")?;
    ground.common += "system.preSwitchChecks.shop = \"[ ! -e /run/closed ]\";";
    ground.publish(&bus("broker"))?;
    ground.update(0)?;
    ground.tells(&["switched"])?;
    let closes = "system.activationScripts.close = \"touch /run/closed\";\
                  services.bento-client.health.checks.shop.command = [ \"/bin/false\" ];";
    ground.publish(&format!("{}{closes}", bus("broker")))?;
    ground.update(3)?;
    ground.tells(&["rolled_back"])?;
    ground.is_wholly("5")
}

// Issue 10, line 31: by the settings of the system that is booted, and those are the new one's.
#[test]
fn a_system_that_wants_no_kexec_is_not_jumped_into() -> Result<()> {
    let mut ground = Ground::with(Features::default(), QUICK, "reboot = \"immediate\"\n")?;
    // What tells which way the machine was to go down.
    let systemctl = r#"#!/bin/sh
        case " $* " in *" kexec "*|*" reboot "*) echo "$*" >>/var/lib/asked; exit 0 ;; esac
        exec /usr/bin/systemctl "$@"
    "#;
    let guest = &ground.computer.guest;
    guest.put_file("/opt/bento/bin/systemctl", "755", systemctl)?;
    let kexec =
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo 1 >/sys/kernel/kexec_loaded'\n";
    guest.put_file("/etc/systemd/system/prepare-kexec.service", "644", kexec)?;
    // No kernel can be loaded in a container; it only says so.
    guest
        .shell("mount -t tmpfs tmpfs /sys/kernel; systemctl daemon-reload")?
        .success()?;
    ground.change_kernel();
    ground.publish("services.bento-client.reboot.kexec = false;")?;
    ground.update(0)?;
    let asked = ground.computer.guest.read_file("/var/lib/asked")?;
    assert!(
        asked.contains("reboot") && !asked.contains("kexec"),
        "{asked}"
    );
    Ok(())
}
