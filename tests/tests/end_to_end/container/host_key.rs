//! The key by which machines know the appliance, when something happens to it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bento_tests::process::{self, Output};
use bento_tests::{Appliance, Fleet, Options, artifacts};

use super::fleet;
use crate::machine::Machine;

/// Starts an appliance whose key was tampered with, sees it refuse, and gives what it says in the end.
fn refusal(appliance: &Appliance) -> Result<String> {
    appliance.start_again()?;
    assert_eq!(appliance.exit_code()?, 1);
    let log = appliance.logs()?;
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("bento: "), "{log}");
    Ok(last.to_owned())
}

#[test]
fn an_invalid_host_key_is_reported_and_left_alone() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let known = appliance.host_key()?;
    assert_eq!(appliance.stop()?, 0);
    let path = appliance.state_folder()?.join("keys/ssh_host_ed25519_key");
    let public = path.with_added_extension("pub");
    let good = fs::read(&path)?;
    let mut corrupt = good.clone();
    corrupt[good.len() / 2] ^= 1;

    for bad in [&b""[..], &corrupt, &good[..good.len() / 2]] {
        fs::write(&path, bad)?;
        let said = refusal(&appliance)?;
        assert!(
            said.contains("host key /state/keys/ssh_host_ed25519_key"),
            "{said}"
        );
        assert_eq!(fs::read(&path)?, bad, "it is left alone");
    }
    fs::remove_file(&path)?;
    let said = refusal(&appliance)?;
    assert!(said.contains("is gone"), "{said}");
    assert!(!path.exists(), "no new one is made");
    fs::create_dir(&path)?;
    let said = refusal(&appliance)?;
    assert!(said.contains("isn't a file"), "{said}");
    fs::remove_dir(&path)?;

    let (root, group) = appliance.ids();
    fs::write(&path, &good)?;
    let give = |path: &Path, owner: u32, mode: u32| -> Result<()> {
        chown(path, Some(owner), Some(group))?;
        Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
    };
    // The container's root could read each of these, and ssh-keygen minds only the first.
    for (owner, mode) in [(root, 0o640), (0, 0o600)] {
        give(&path, owner, mode)?;
        let said = refusal(&appliance)?;
        assert!(said.contains("isn't private"), "{said}");
    }
    give(&path, root, 0o600)?;
    fs::remove_file(public)?;
    appliance.restart()?;
    assert_eq!(appliance.host_key()?, known);
    Machine::of(&fleet, "kikimora", &appliance).pull()?;
    Ok(())
}

/// What the client of a machine that knows the server by these keys says of it.
fn check(fleet: &Fleet, appliance: &Appliance, keys: &[&str]) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let client = |command: &str| -> Result<Command> {
        let mut client = Command::new(artifacts::binary("bento-client")?);
        let path = |name: &str| folder.path().join(name);
        client.arg(command).arg("--config").arg(path("client.toml"));
        client
            .arg("--state")
            .arg(path("state"))
            .arg("--root")
            .arg(path("root"));
        Ok(client)
    };
    let mut bootstrap = client("bootstrap")?;
    bootstrap.args([
        "--name",
        "kikimora",
        "--server",
        &appliance.address().to_string(),
    ]);
    bootstrap.arg("--identity-file").arg(fleet.key("kikimora"));
    for key in keys {
        bootstrap.args(["--host-key", key]);
    }
    process::run(&mut bootstrap, process::SHORT)?.success()?;
    process::run(&mut client("check")?, process::SHORT)
}

// Issue 10, line 38.
#[test]
fn the_key_is_printed_with_the_fingerprint_that_a_machine_shows_of_it() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let line = appliance.host_key()?;
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!((words.len(), words[0]), (3, "ssh-ed25519"), "{line}");
    let fingerprint = words[2];
    let pinned = format!("answers with the pinned host key {fingerprint}");
    let good = check(&fleet, &appliance, &[&line])?;
    assert!(good.stdout.contains(&pinned), "{}", good.stdout);

    let another = fs::read_to_string(fleet.key("kikimora").with_added_extension("pub"))?;
    let refused = check(&fleet, &appliance, &[another.trim()])?;
    for part in [
        &format!("shows the host key {fingerprint}, but pinned is SHA256:"),
        "`bento host-key`",
        "/etc/bento/client.toml",
        "hostKeys of services.bento-client.servers",
    ] {
        assert!(refused.stdout.contains(part), "{part}: {}", refused.stdout);
    }
    Ok(())
}

#[test]
fn while_one_replaces_the_other_a_machine_that_knows_both_finds_the_appliance() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let old = appliance.host_key()?;
    let step = |step: &str| -> Result<Vec<String>> {
        let keys = appliance
            .exec(["host-key", step, "--yes"])?
            .success()?
            .stdout;
        Ok(keys.lines().map(str::to_owned).collect())
    };
    let lets_in = |keys: &[&str]| -> Result<bool> {
        let output = check(&fleet, &appliance, keys)?;
        Ok(output.stdout.contains("lets kikimora in"))
    };
    assert!(appliance.exec(["host-key", "--switch", "--yes"])?.code() != 0);
    let both = step("--prepare")?;
    assert_eq!(both[0], old);
    let new = both[1].as_str();
    assert_eq!(step("--prepare")?, both, "the machines may know it by now");
    assert!(lets_in(&[&old, new])? && !lets_in(&[new])?);
    // Nobody is asked, so nobody agreed.
    assert!(appliance.exec(["host-key", "--switch"])?.code() != 0);

    assert_eq!(step("--switch")?, [new, &old]);
    assert!(lets_in(&[&old, new])? && lets_in(&[new])? && !lets_in(&[&old])?);
    assert_eq!(step("--switch")?, both, "there is a way back");
    assert!(lets_in(&[&old])?);
    step("--switch")?;
    appliance.kill_hard()?;
    appliance.start_again()?;
    appliance.await_health()?;
    assert!(lets_in(&[&old, new])?);
    assert_eq!(step("--forget")?, [new]);
    assert!(lets_in(&[&old, new])?);
    assert!(appliance.exec(["host-key", "--switch", "--yes"])?.code() != 0);
    Ok(())
}

#[test]
fn a_key_that_fleet_toml_does_not_name_is_not_switched_to() -> Result<()> {
    let mut fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let old = appliance.host_key()?;
    let pin = |fleet: &mut Fleet, keys: &[&str]| {
        fleet.server(&format!("address = \"127.0.0.1\"\nhost_keys = {keys:?}"))
    };
    pin(&mut fleet, &[&old])?;
    let both = appliance.exec(["host-key", "--prepare"])?.success()?.stdout;
    let new = both.lines().nth(1).unwrap_or_default();
    let refused = appliance.exec(["host-key", "--switch", "--yes"])?;
    assert!(
        refused.code() != 0 && refused.stderr.contains("none of host_keys"),
        "{refused:?}"
    );
    assert_eq!(appliance.exec(["host-key"])?.success()?.stdout, both);
    pin(&mut fleet, &[&old, new])?;
    appliance
        .exec(["host-key", "--switch", "--yes"])?
        .success()?;
    assert_eq!(appliance.stop()?, 0);
    appliance.restart()?;
    assert_eq!(appliance.host_key()?.lines().next(), Some(new));
    Ok(())
}
