//! A folder that never becomes stable, and so is never published: the status says so.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::{Appliance, wait};

use super::{DEBOUNCE, configuration, fleet, start};
use crate::machine::Machine;
use crate::states;

/// It is reported after a minute; a machine that is busy with other tests needs more.
const LIMIT: Duration = Duration::from_secs(150);

fn await_status(
    appliance: &Appliance,
    what: &str,
    holds: impl Fn(&serde_json::Value) -> bool,
) -> Result<()> {
    wait::until(what, LIMIT, || {
        appliance
            .status_json()
            .is_ok_and(|status| holds(&status))
            .then_some(())
    })
    .with_context(|| appliance.logs().unwrap_or_default())
}

#[test]
fn a_file_that_delays_a_publication_for_a_minute_is_named_until_it_goes() -> Result<()> {
    let (mut logged, locked) = (fleet(&["domovoi", "kikimora"])?, fleet(&["kikimora"])?);
    logged.publish(DEBOUNCE)?;
    let (unstable, stopped) = (start(&logged)?, start(&locked)?);
    let machine = |name| Machine::of(&logged, name, &unstable);
    let (kikimora, domovoi) = (machine("kikimora"), machine("domovoi"));
    let (old, others) = (kikimora.pull()?.id(), domovoi.pull()?.id());
    let locked_out = Machine::of(&locked, "kikimora", &stopped);
    let before = locked_out.pull()?.id();

    // git died, and left its lock; and somebody's service writes its log into the folder.
    locked.write(".git/index.lock", "")?;
    locked.write(&configuration("kikimora"), "changed")?;
    let log = logged.path().join("hosts/kikimora/service.log");
    let done = AtomicBool::new(false);
    let error_of = |status: &serde_json::Value| {
        let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
        let host = hosts.into_iter().find(|host| host["name"] == "kikimora");
        host.map(|host| host["error"].as_str().unwrap_or_default().to_owned())
    };
    thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            for line in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                fs::write(&log, format!("line {line}"))?;
                thread::sleep(Duration::from_millis(500));
            }
            Ok(())
        });
        let log = (|| {
            // Another machine's edit goes its way.
            logged.write(&configuration("domovoi"), "changed")?;
            domovoi.await_other_than(others)?;
            await_status(&unstable, "the file to be named", |status| {
                error_of(status).is_some_and(|error| {
                    error.contains("hosts/kikimora/service.log: has kept changing")
                })
            })?;
            await_status(&stopped, "git's lock to be named", |status| {
                status["problems"].to_string().contains(".git/index.lock")
            })
        })();
        done.store(true, Ordering::Relaxed);
        writing.join().expect("it doesn't panic")?;
        log
    })?;
    let log = states::await_log(&unstable, "service.log")?;
    assert!(log.contains("WARN") && log.contains("kikimora"), "{log}");

    kikimora.await_other_than(old)?;
    locked.remove(".git/index.lock")?;
    let after = locked_out.await_other_than(before)?;
    assert_eq!(after.text("config/configuration.nix"), "changed");
    await_status(&unstable, "the problem to go", |status| {
        error_of(status).is_some_and(|error| error.is_empty())
    })?;
    await_status(&stopped, "the problem to go", |status| {
        status["problems"].as_array().is_some_and(Vec::is_empty)
    })
}
