//! Owners and modes in the state that somebody changed from outside of the container.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options, process, wait};

use crate::machine::Machine;
use crate::{reports, states};

/// They are checked again each 30 s; a machine that is busy with other tests needs more.
const LIMIT: Duration = Duration::from_secs(120);

fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    for name in ["domovoi", "kikimora"] {
        fleet.host(name, |host| {
            host.file("configuration.nix", "{ }")?;
            host.file("bin/run", "#!/bin/sh\n")?;
            Ok(())
        })?;
    }
    Ok(fleet)
}

/// Runs a program with a folder of the state as its last argument.
fn change(program: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).arg(folder);
    process::run(&mut command, process::SHORT)?.success()?;
    Ok(())
}

/// The inbox of what is published for a machine.
fn inbox(state: &Path, name: &str) -> Result<PathBuf> {
    let host = state.join("hosts").join(name);
    Ok(host.join(fs::read_link(host.join("current"))?).join("logs"))
}

/// Everything that a machine does works: it polls, pulls and reports, reads a file of its configuration that nobody
/// else may change, and can't list its inbox.
fn works(fleet: &Fleet, appliance: &Appliance, name: &str) -> Result<()> {
    let machine = Machine::of(fleet, name, appliance);
    let runs = states::of(appliance, name)?["runs"]
        .as_u64()
        .unwrap_or_default();
    let session = machine.log_in()?;
    let generation = session.pull()?;
    session.leave(&reports::success(generation.id()))?;
    assert_eq!(session.read("/config/bin/run")?, b"#!/bin/sh\n");
    drop(session);
    let run = inbox(&appliance.state_folder()?, name)?.with_file_name("config/bin/run");
    assert_eq!(fs::metadata(run)?.mode() & 0o022, 0, "others may change it");
    states::await_runs(appliance, name, runs + 1)?;
    let listed = machine.sftp("ls /logs")?;
    assert_ne!(listed.code(), 0, "{}", listed.stdout);
    Ok(())
}

// Issue 10, line 34.
#[test]
fn a_state_that_a_copy_or_a_restore_has_broken_is_set_right_at_the_start() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let state = appliance.state_folder()?;
    let (user, group) = appliance.ids();
    // An id that the container knows, and isn't its root's.
    let machines = fs::metadata(inbox(&state, "kikimora")?)?.gid().to_string();
    let roots = format!("{user}:{group}");
    let breaks: [(&str, &[&str], &str); 7] = [
        ("chmod", &["0777"], ""),
        ("chmod", &["0777"], "hosts"),
        ("chgrp", &[&machines], "hosts"),
        ("chmod", &["-R", "0777"], "hosts"),
        ("chmod", &["-R", "go-rwx"], "hosts"),
        ("chown", &["-R", "-h", &roots], "hosts"),
        ("chown", &["-h", &machines], "hosts/kikimora"),
    ];
    for (program, arguments, folder) in breaks {
        assert_eq!(appliance.stop()?, 0);
        change(program, arguments, &state.join(folder))?;
        appliance.restart()?;
        for name in ["domovoi", "kikimora"] {
            works(&fleet, &appliance, name).with_context(|| {
                let log = appliance.logs().unwrap_or_default();
                format!("{name} after {program} {arguments:?} /state/{folder}; the log:\n{log}")
            })?;
        }
        assert!(appliance.logs()?.contains("were set right"));
    }
    Ok(())
}

// Issue 10, line 34.
#[test]
fn an_inbox_that_everybody_may_list_is_closed_while_the_appliance_runs() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    change(
        "chmod",
        &["0777"],
        &inbox(&appliance.state_folder()?, "kikimora")?,
    )?;
    wait::until("the inbox to be closed", LIMIT, || {
        let listed = machine.sftp("ls /logs").ok()?;
        (listed.code() != 0).then_some(())
    })?;
    works(&fleet, &appliance, "kikimora")
}

// Issue 10, line 34.
#[test]
fn what_can_not_be_set_right_is_said_and_nobody_calls_that_healthy() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let hosts = appliance.state_folder()?.join("hosts");
    let (user, group) = appliance.ids();
    // The container doesn't know this machine's root.
    let take = |name: &str| lchown(hosts.join(name), Some(0), Some(0));
    let give = |name: &str| lchown(hosts.join(name), Some(user), Some(group));

    take("kikimora")?;
    let status = states::await_that(&appliance, "kikimora", "have a problem", |host| {
        host["error"]
            .as_str()
            .is_some_and(|error| error.contains("instead of root"))
    })?;
    let error = status["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("/state/hosts/kikimora") && error.contains("chown"),
        "{error}"
    );
    let health = appliance.exec(["health"])?.success()?.stdout;
    assert!(health.contains("locked out: kikimora"), "{health}");
    works(&fleet, &appliance, "domovoi")?;

    take("domovoi")?;
    let health = appliance.exec(["health"])?;
    assert_eq!(health.code(), 1, "{}", health.stdout);
    assert!(
        health.stderr.contains("no machine can log in"),
        "{}",
        health.stderr
    );
    assert!(
        health.stderr.contains("/state/hosts/domovoi"),
        "{}",
        health.stderr
    );
    assert!(Machine::of(&fleet, "domovoi", &appliance).log_in().is_err());

    give("domovoi")?;
    give("kikimora")?;
    states::await_that(&appliance, "kikimora", "have no problem", |host| {
        host["error"].is_null()
    })?;
    let health = appliance.exec(["health"])?.success()?.stdout;
    assert!(!health.contains("locked out"), "{health}");

    assert_eq!(appliance.stop()?, 0);
    lchown(&hosts, Some(0), Some(0))?;
    appliance.start_again()?;
    assert_eq!(appliance.exit_code()?, 1);
    let log = appliance.logs()?;
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.contains("no machine could log in: /state/hosts: "),
        "{log}"
    );
    assert!(last.contains("chown"), "{log}");
    Ok(())
}
