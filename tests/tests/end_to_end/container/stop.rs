//! TERM, whatever the appliance is doing.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options, Podman, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fleet;
use crate::machine::Machine;
use crate::states;

const LIMIT: Duration = Duration::from_secs(60);
/// How long a start is let go on before it is stopped, each time longer: it takes some 200 ms.
const STEP: Duration = Duration::from_millis(20);
const STARTS: u32 = 12;

/// Whether a process has said by now what is to happen on TERM.
fn catches_term(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
    caught.is_some_and(|caught| caught & 1 << (Signal::SIGTERM as u32 - 1) != 0)
}

/// What publications that were cut off have left behind.
fn debris(state: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for host in fs::read_dir(state.join("hosts"))? {
        let Ok(entries) = fs::read_dir(host?.path().join("publications")) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some() {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[test]
fn a_start_can_be_stopped_at_any_moment() -> Result<()> {
    let fleet = fleet()?;
    let folder = tempfile::tempdir()?;
    Podman::new()?.own(folder.path())?;
    let number = folder.path().join("number");
    let options = Options {
        podman: vec![format!("--pidfile={}", number.display())],
        ..Options::default()
    };
    let appliance = Appliance::start(fleet.path(), options)?;
    assert_eq!(appliance.stop()?, 0);
    let state = appliance.state_folder()?;
    for start in 0..STARTS {
        // To make a host key is a part of a first start; the one before may not have come so far.
        fs::remove_dir_all(state.join("keys")).ok();
        fs::remove_file(&number).ok();
        thread::scope(|scope| {
            let started = scope.spawn(|| appliance.start_again());
            let process = wait::closely("the first process to catch TERM", LIMIT, || {
                let process = fs::read_to_string(&number).ok()?.trim().parse().ok()?;
                let process = Pid::from_raw(process);
                catches_term(process).then_some(process)
            })?;
            thread::sleep(start * STEP);
            kill(process, Signal::SIGTERM)?;
            started.join().unwrap()
        })?;
        let log = appliance.logs()?;
        assert_eq!(appliance.exit_code()?, 0, "{log}");
    }
    let log = appliance.logs()?;
    assert!(log.contains("stopped before it was ready"), "{log}");
    appliance.restart()?;
    Machine::of(&fleet, "kikimora", &appliance).pull()?;
    Ok(())
}

#[test]
fn a_publication_can_be_stopped_and_leaves_nothing_behind() -> Result<()> {
    const MACHINES: [&str; 4] = ["alice", "domovoi", "kikimora", "leshy"];
    let mut fleet = Fleet::new()?;
    for name in MACHINES {
        fleet.host(name, |host| {
            for number in 0..2000 {
                host.file(&format!("{number}.nix"), number.to_string())?;
            }
            host.file("configuration.nix", "{ }")?;
            Ok(())
        })?;
    }
    let appliance = Appliance::launch(fleet.path(), Options::default())?;
    let (state, process) = (appliance.state_folder()?, appliance.first_process()?);
    wait::until("a publication to begin", LIMIT, || {
        let begun = debris(&state).ok()?.len() > 1;
        begun.then(|| kill(process, Signal::SIGTERM))
    })??;
    assert_eq!(appliance.exit_code()?, 0);
    assert!(!debris(&state)?.is_empty(), "it was too fast to be stopped");

    // While git is at work nothing is published, and so nothing laid over what was left.
    fleet.write(".git/index.lock", "")?;
    appliance.start_again()?;
    states::await_times(&appliance, "listening", 2)?;
    assert_eq!(debris(&state)?, [""; 0].map(PathBuf::from));
    fleet.remove(".git/index.lock")?;
    for name in MACHINES {
        states::await_word(&appliance, name, "new")?;
        Machine::of(&fleet, name, &appliance).pull()?;
    }
    assert_eq!(debris(&state)?, [""; 0].map(PathBuf::from));
    Ok(())
}

#[test]
fn a_session_that_goes_on_and_on_does_not_keep_it_from_stopping() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    let session = machine.log_in()?;
    assert_eq!(appliance.stop()?, 0);
    session.poll().err().context("its session has ended")?;
    appliance.restart()?;
    machine.pull()?;
    Ok(())
}
