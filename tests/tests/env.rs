//! The environment itself: what every other end-to-end test takes for granted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::appliance::CONFINEMENT;
use bento_tests::guest::{Disk, Features, Kind};
use bento_tests::{Guest, Podman, Proxy, process, wait};

/// A derivation that needs nothing but Nix and a shell.
const RAW_FLAKE: &str = r#"{
  outputs = { self }: {
    greeting = derivation {
      name = "greeting";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-c" "echo hello > $out" ];
    };
  };
}
"#;

/// Says whose root it is inside a container.
const SHOW_IDS: &str = r#"
#include <stdio.h>
int main(void) {
    FILE *map = fopen("/proc/self/uid_map", "r");
    int character;
    while (map && (character = fgetc(map)) != EOF) putchar(character);
    return map == NULL;
}
"#;

#[test]
fn a_guest_builds_with_nix_and_keeps_it_over_a_restart() -> Result<()> {
    let mut guest = Guest::boot()?;
    eprintln!("the guest is: {}", guest.kind());
    builds_and_keeps(&mut guest)
}

#[test]
fn a_guest_without_systemd_does_so_too() -> Result<()> {
    builds_and_keeps(&mut Guest::boot_as(Kind::Root)?)
}

fn builds_and_keeps(guest: &mut Guest) -> Result<()> {
    guest.put_file("/root/greeting/flake.nix", "644", RAW_FLAKE)?;
    guest
        .shell("nix build --out-link /root/result path:/root/greeting#greeting")?
        .success()?;
    let first_boot = guest.boot_id()?;
    guest.stop()?;
    assert!(guest.run(["true"]).is_err(), "a stopped guest runs nothing");
    guest.start()?;
    assert_ne!(guest.boot_id()?, first_boot);
    assert_eq!(guest.read_file("/root/result")?, "hello\n");
    Ok(())
}

#[test]
fn a_guest_of_systemd_runs_units_and_reboots_itself() -> Result<()> {
    let mut guest = Guest::boot_as(Kind::Systemd)?;
    let state = guest.run(["systemctl", "is-system-running"])?;
    assert_eq!(state.stdout, "running\n", "{}", guest.console());
    let unit = guest
        .shell("systemd-run --quiet --pipe --wait cat /proc/self/cgroup")?
        .success()?;
    assert!(
        unit.stdout.contains("0::/system.slice/run-"),
        "{}",
        unit.stdout
    );
    let boot = guest.boot_id()?;
    guest.run(["systemctl", "reboot"])?;
    guest.await_another_boot(&boot)
}

#[test]
fn a_power_cut_ends_what_runs_and_keeps_what_was_written() -> Result<()> {
    let mut guest = Guest::boot()?;
    guest.put_file("/var/lib/kept/file", "600", "kept")?;
    guest
        .shell("cp /bin/sleep /usr/local/bin/survivor; survivor 600 >/dev/null 2>&1 &")?
        .success()?;
    guest.cut_power()?;
    guest.start()?;
    assert_eq!(guest.read_file("/var/lib/kept/file")?, "kept");
    let alive = guest
        .shell("cat /proc/[0-9]*/comm || true")?
        .success()?
        .stdout;
    assert!(!alive.contains("survivor"), "{alive}");
    Ok(())
}

/// Notes phases as the client does, skips one, renames something else in between, and works in each.
const STEPS: &str = r#"
    my $folder = "/var/lib/bento";
    rename "$folder/done", "$folder/doing"; rename "$folder/doing", "$folder/done";
    for my $phase (qw(poll pull stage build)) {
        open(my $aside, ">", "$folder/aside"); print $aside qq({"phase":"$phase"}); close $aside;
        rename "$folder/aside", "$folder/transaction.json";
        open(my $done, ">>", "$folder/done"); print $done "$phase\n"; close $done;
        rename "$folder/done", "$folder/doing"; rename "$folder/doing", "$folder/done";
    }
    exit 3;
"#;

fn done(guest: &Guest) -> Result<String> {
    guest.read_file("/var/lib/bento/done")
}

#[test]
fn a_client_stands_still_where_a_phase_begins_and_goes_on_or_is_killed() -> Result<()> {
    let mut guest = Guest::boot()?;
    let steps = ["perl", "-e", STEPS];
    guest.shell("mkdir -p /var/lib/bento; echo >/var/lib/bento/done")?;

    let mut halted = guest.halted_at("pull", steps)?;
    assert_eq!(done(&guest)?, "\npoll\n");
    halted.go_on_to("build")?;
    assert_eq!(done(&guest)?, "\npoll\npull\nstage\n");
    assert_eq!(halted.go_on()?.code(), 3);
    assert!(done(&guest)?.ends_with("build\n"));

    // The phase that an earlier run has left on disk isn't taken for this one's.
    guest.shell("echo >/var/lib/bento/done")?;
    let halted = guest.halted_at("build", steps)?;
    assert_eq!(done(&guest)?, "\npoll\npull\nstage\n");
    assert_eq!(halted.kill()?.code(), 137);
    assert_eq!(done(&guest)?, "\npoll\npull\nstage\n");

    let never = guest.halted_at("verify", steps).unwrap_err();
    assert!(format!("{never:#}").contains("never came to"), "{never:#}");

    let halted = guest.halted_at("poll", steps)?;
    guest.cut_power()?;
    halted.end()?;
    guest.start()
}

#[test]
fn a_small_disk_can_be_filled_and_freed_and_stays_over_a_restart() -> Result<()> {
    for (disk, path) in [
        (Disk::State, "/var/lib/bento/file"),
        (Disk::Store, "/nix/file"),
    ] {
        let mut guest = Guest::boot_with(Features {
            disk: Some(disk),
            ..Features::default()
        })?;
        let write = format!("cp /etc/hostname {path}");
        guest.fill()?;
        let refused = guest.shell(&write)?;
        assert!(
            refused.stderr.contains("No space left on device"),
            "{refused:?}"
        );
        guest.shell("cp /etc/hostname /root")?.success()?;
        guest.free()?;
        guest.shell(&write)?.success()?;
        guest.cut_power()?;
        guest.start()?;
        assert_eq!(guest.read_file(path)?, guest.read_file("/etc/hostname")?);
        builds_and_keeps(&mut guest)?;
    }
    Ok(())
}

#[test]
fn a_guest_can_take_its_own_network_down_until_its_next_boot() -> Result<()> {
    let mut guest = Guest::boot_with(Features {
        network: true,
        ..Features::default()
    })?;
    let here = guest.host_address().context("it has a network")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = listener.local_addr()?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.write_all(b"hello").ok();
            stream.read_to_end(&mut Vec::new()).ok();
        }
    });
    let proxy = Proxy::start_at(here.into(), server, Duration::ZERO)?;
    let (address, port) = (proxy.address().ip(), proxy.address().port());
    let hear = format!("timeout 2 bash -c 'head -c 5 </dev/tcp/{address}/{port}'");
    let reaches = |guest: &Guest| Ok::<_, anyhow::Error>(guest.shell(&hear)?.stdout == "hello");
    assert!(reaches(&guest)?);
    let past_the_proxy = hear.replace(&format!("{address}/{port}"), &server.to_string());
    assert_ne!(guest.shell(&past_the_proxy)?.code(), 0);

    guest.shell("ip link set host0 down")?.success()?;
    assert!(!reaches(&guest)?);
    guest.reboot()?;
    wait::until("the network to be up", process::SHORT, || {
        reaches(&guest).ok().filter(|reaches| *reaches)
    })?;
    let boot = guest.boot_id()?;
    guest.run(["systemctl", "reboot"])?;
    guest.await_another_boot(&boot)?;
    assert!(reaches(&guest)?);
    proxy.stall();
    assert!(!reaches(&guest)?);
    Ok(())
}

#[test]
fn what_the_client_leaves_behind_is_seen_and_a_unit_of_it_can_be_killed() -> Result<()> {
    let guest = Guest::boot_as(Kind::Systemd)?;
    guest.await_quiet()?;
    guest
        .shell(
            "cp /bin/sleep /usr/local/bin/bento-idle
             systemd-run --collect --unit=bento-switch bento-idle 600
             systemd-run --unit=bento-rollback --on-active=600 true",
        )?
        .success()?;
    let left = guest.leftovers()?;
    let is_there = |what: &str| left.iter().any(|line| line.starts_with(what));
    assert!(is_there("unit bento-switch.service"), "{left:?}");
    assert!(is_there("unit bento-rollback.timer"), "{left:?}");
    assert!(is_there("process "), "{left:?}");
    guest.kill_unit("bento-switch*")?;
    guest.run(["systemctl", "stop", "bento-rollback.timer"])?;
    guest.await_quiet()
}

#[test]
fn a_command_can_have_a_clock_that_is_wrong() -> Result<()> {
    let guest = Guest::boot()?;
    let seconds =
        |output: process::Output| -> Result<i64> { Ok(output.success()?.stdout.trim().parse()?) };
    let right = seconds(guest.run(["date", "+%s"])?)?;
    let early = seconds(guest.run_with_clock(-3600, ["date", "+%s"])?)?;
    assert!(early < right - 3000, "{early} isn't an hour before {right}");
    let client = ["bento-client", "check"];
    let checked = guest.run_with_clock(3600, client)?;
    assert_eq!(checked.code(), guest.run(client)?.code(), "{checked:?}");
    Ok(())
}

#[test]
fn a_guest_can_be_kept_found_again_and_removed() -> Result<()> {
    let kept = kept_found_again_and_removed(Kind::here()?, "bento-kept");
    // Without this, a test that fails would leave a machine running.
    Guest::remove("bento-kept")?;
    kept
}

fn kept_found_again_and_removed(kind: Kind, name: &str) -> Result<()> {
    Guest::remove(name)?;
    Guest::boot_named(kind, name)?.keep();
    assert!(
        Guest::boot_named(kind, name).is_err(),
        "two guests with one name"
    );
    let found = Guest::find(name)?;
    assert_eq!(found.run(["hostname"])?.success()?.stdout.trim(), name);
    drop(found);
    assert_eq!(Guest::find(name)?.kind(), kind);
    assert!(Guest::remove(name)?);
    assert!(Guest::find(name).is_err());
    assert!(!Guest::remove(name)?, "nothing is left to remove");
    Ok(())
}

#[test]
fn podman_runs_an_image_from_scratch_for_an_ordinary_user() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (program, archive) = (
        folder.path().join("show-ids"),
        folder.path().join("image.tar"),
    );
    let mut compile = Command::new("cc");
    compile
        .args(["-static", "-x", "c", "-", "-o"])
        .arg(&program);
    process::run_with_input(&mut compile, SHOW_IDS.as_bytes(), process::SHORT)?.success()?;
    let mut pack = Command::new("tar");
    pack.arg("-C")
        .arg(folder.path())
        .arg("-cf")
        .arg(&archive)
        .arg("show-ids");
    process::run(&mut pack, process::SHORT)?.success()?;

    let podman = Podman::new()?;
    podman.own(&archive)?;
    let mut import = podman.command();
    import.args(["import", "-", "localhost/bento-show-ids"]);
    import.stdin(std::fs::File::open(&archive)?);
    process::run_as_set_up(&mut import, process::LONG)?.success()?;

    let mut run = vec!["run", "--rm", "--publish=127.0.0.1::2222"];
    run.extend(podman.run_options());
    run.extend(CONFINEMENT);
    run.extend(["localhost/bento-show-ids", "/show-ids"]);
    let map = podman.run(run);
    podman.run(["rmi", "--force", "localhost/bento-show-ids"])?;
    let map = map?;
    let outside = map
        .split_whitespace()
        .nth(1)
        .context("the map has no columns")?;
    assert_eq!(outside, podman.ids().0.to_string());
    assert_ne!(outside, "0", "root in a container is root outside");
    Ok(())
}
