//! What the container must be given: without it the appliance says so, all at once, and serves nobody.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process::Command;

use anyhow::Result;
use bento_tests::appliance::CONFINEMENT;
use bento_tests::{Appliance, Fleet, Options, Podman, artifacts, process};
use tempfile::TempDir;

use super::{CAPABILITIES, fleet};
use crate::machine::Machine;

/// Starts an appliance that must refuse to run, and gives the one line that it says.
fn refusal(fleet: &Fleet, options: Options) -> Result<String> {
    let appliance = Appliance::launch(fleet.path(), options)?;
    assert_eq!(appliance.exit_code()?, 1, "{}", appliance.logs()?);
    let log = appliance.logs()?;
    // It didn't listen: that would be another line.
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.starts_with("bento: this container can't serve machines: "),
        "{log}"
    );
    assert!(TcpStream::connect(appliance.address()).is_err());
    Ok(log)
}

/// The options that leave it only these capabilities.
fn confined(capabilities: &[&str]) -> Option<Vec<String>> {
    let mut confinement = ["--read-only", "--cap-drop=all", "--security-opt"].to_vec();
    confinement.push("no-new-privileges");
    let mut confinement: Vec<_> = confinement.into_iter().map(str::to_owned).collect();
    confinement.extend(capabilities.iter().map(|name| format!("--cap-add={name}")));
    Some(confinement)
}

/// A file with nothing in it, which can't be run, for what podman binds over a program.
fn nothing() -> Result<(TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("nothing");
    File::create(&file)?;
    Podman::new()?.own(folder.path())?;
    let shown = file.display().to_string();
    Ok((folder, shown))
}

#[test]
fn each_capability_that_is_left_out_is_named_with_its_option() -> Result<()> {
    let fleet = fleet()?;
    for missing in CAPABILITIES {
        let others: Vec<_> = CAPABILITIES
            .into_iter()
            .filter(|name| *name != missing)
            .collect();
        let options = Options {
            confinement: confined(&others),
            ..Options::default()
        };
        let log = refusal(&fleet, options)?;
        let short = missing.trim_start_matches("CAP_");
        assert!(
            log.contains(&format!(
                "{missing} is missing: run it with --cap-add={short} "
            )),
            "{log}"
        );
        assert_eq!(log.matches(" is missing").count(), 1, "{log}");
    }
    Ok(())
}

#[test]
fn everything_that_is_missing_is_named_at_once() -> Result<()> {
    let (_folder, nothing) = nothing()?;
    let options = Options {
        confinement: confined(&[]),
        stateless: true,
        podman: [
            "--uidmap=0:0:20000".to_owned(),
            "--gidmap=0:0:20000".to_owned(),
            format!("--volume={nothing}:/usr/sbin/sshd:ro"),
            format!("--volume={nothing}:/usr/bin/ssh-keygen:ro"),
        ]
        .to_vec(),
        ..Options::default()
    };
    let log = refusal(&fleet()?, options)?;
    for name in CAPABILITIES {
        let short = name.trim_start_matches("CAP_");
        assert!(log.contains(&format!("--cap-add={short} ")), "{log}");
    }
    for what in [
        "user ids are mapped without a gap only below 20000, but up to 29999 are needed",
        "group ids are mapped without a gap only below 20000, but up to 29999 are needed",
        "use no --userns, --uidmap or --gidmap",
        "/state is no volume but a part of the container",
        "--volume=bento-state:/state",
        "; sshd isn't in /usr/sbin",
        "; ssh-keygen isn't in /usr/sbin",
    ] {
        assert!(log.contains(what), "{what}: {log}");
    }
    Ok(())
}

#[test]
fn a_state_that_is_read_only_or_does_not_persist_is_refused() -> Result<()> {
    let fleet = fleet()?;
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    fs::create_dir(&state)?;
    Podman::new()?.own(folder.path())?;
    let read_only = format!("--volume={}:/state:ro", state.display());
    let writable_root = CONFINEMENT
        .into_iter()
        .filter(|option| *option != "--read-only")
        .map(str::to_owned)
        .collect();
    let stateless = |podman: &[&str]| Options {
        stateless: true,
        podman: podman.iter().map(ToString::to_string).collect(),
        ..Options::default()
    };
    let on_a_writable_root = Options {
        confinement: Some(writable_root),
        ..stateless(&[])
    };
    for (options, cause) in [
        (stateless(&[]), "/state is no volume"),
        (on_a_writable_root, "/state is no volume"),
        (stateless(&["--tmpfs=/state"]), "/state lies in memory"),
        (stateless(&[&read_only]), "/state is read-only"),
    ] {
        let log = refusal(&fleet, options)?;
        assert!(log.contains(cause), "{cause}: {log}");
        assert!(
            log.contains("run it with --volume=bento-state:/state "),
            "{log}"
        );
    }
    assert_eq!(fs::read_dir(&state)?.count(), 0);
    Ok(())
}

#[test]
fn only_who_asks_for_it_gets_an_appliance_that_keeps_nothing() -> Result<()> {
    let fleet = fleet()?;
    let ephemeral = |podman: &[&str]| Options {
        stateless: true,
        podman: podman.iter().map(ToString::to_string).collect(),
        command: ["serve", "--ephemeral"].map(str::to_owned).to_vec(),
        ..Options::default()
    };
    // Podman's tmpfs is everybody's to write to, and sshd enters no such folder.
    let appliance = Appliance::start(fleet.path(), ephemeral(&["--tmpfs=/state"]))?;
    Machine::of(&fleet, "kikimora", &appliance).pull()?;
    let log = appliance.logs()?;
    assert!(log.contains("nothing needs to be kept"), "{log}");

    let log = refusal(&fleet, ephemeral(&[]))?;
    assert!(
        log.contains("/state is read-only: run it with --tmpfs=/state"),
        "{log}"
    );
    Ok(())
}

#[test]
fn groups_that_can_not_be_changed_are_reported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // What podman falls back to where a user has no subordinate ids.
    let mut serve = Command::new("unshare");
    serve
        .args(["--user", "--map-root-user", "--"])
        .arg(artifacts::binary("bento")?)
        .args(["serve", "--listen", "127.0.0.1:0"]);
    for option in ["--config", "--state", "--runtime"] {
        serve
            .arg(option)
            .arg(folder.path().join(option.trim_start_matches('-')));
    }
    let output = process::run(&mut serve, process::SHORT)?;
    assert_eq!(output.code(), 1, "{}", output.stderr);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    for what in [
        "groups can't be changed (setgroups is denied): install newuidmap",
        "user ids are mapped without a gap only below 1,",
        "group ids are mapped without a gap only below 1,",
    ] {
        assert!(output.stderr.contains(what), "{what}: {}", output.stderr);
    }
    Ok(())
}
