//! The ground itself: what every other end-to-end test takes for granted.

use std::process::Command;

use anyhow::{Context, Result};
use bento_tests::appliance::CONFINEMENT;
use bento_tests::guest::Kind;
use bento_tests::{Guest, Podman, process};

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
