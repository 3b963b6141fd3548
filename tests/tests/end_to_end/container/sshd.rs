//! An sshd that doesn't serve: from the start, or suddenly.

use std::fs::File;
use std::thread;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Options};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::{Systemd, fleet};
use crate::machine::Machine;
use crate::states;

const SSHD: &str = "/usr/sbin/sshd";
/// The one program of the image that is surely no sshd, and says so.
const ANOTHER: &str = "/usr/bin/bento";
const COMPLAINT: &str = "unexpected argument";

/// Does something where the container's processes have their filesystem.
fn inside(appliance: &Appliance, act: impl FnOnce() -> nix::Result<()> + Send) -> Result<()> {
    let namespace = File::open(format!("/proc/{}/ns/mnt", appliance.first_process()?))?;
    thread::scope(|scope| {
        // In a thread of its own, which never comes back.
        let thread = scope.spawn(move || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(namespace, CloneFlags::CLONE_NEWNS)?;
            act()
        });
        thread.join().unwrap()
    })
    .context("the container's filesystem can't be changed")
}

/// Lays another program over sshd, as a package that is replaced might leave it for a moment, or for good.
fn break_sshd(appliance: &Appliance) -> Result<()> {
    inside(appliance, || {
        mount(
            Some(ANOTHER),
            SSHD,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
    })
}

fn mend_sshd(appliance: &Appliance) -> Result<()> {
    inside(appliance, || umount2(SSHD, MntFlags::empty()))
}

#[test]
fn an_sshd_that_stays_broken_ends_the_container() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    machine.pull()?;
    break_sshd(&appliance)?;
    assert!(machine.log_in().is_err());
    assert_eq!(appliance.exit_code()?, 1);
    let log = appliance.logs()?;
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("bento: sshd doesn't serve any more, after 6 attempts: "),
        "{log}"
    );
    assert!(last.contains(COMPLAINT), "{log}");
    Ok(())
}

#[test]
fn it_is_not_ready_while_sshd_is_broken_and_goes_on_when_it_is_mended() -> Result<()> {
    let fleet = fleet()?;
    let good = std::fs::read(fleet.path().join("fleet.toml"))?;
    fleet.write("fleet.toml", "this isn't a fleet")?;
    let systemd = Systemd::listen()?;
    let options = Options {
        notify_socket: Some(systemd.path()),
        ..Options::default()
    };
    let appliance = Appliance::launch(fleet.path(), options)?;
    states::await_log(&appliance, "fleet.toml:1: ")?;
    break_sshd(&appliance)?;
    fleet.write("fleet.toml", good)?;
    states::await_log(&appliance, "not ready yet: ")?;
    let doubt = states::await_log(&appliance, "sshd doesn't serve any more: ")?;
    assert!(doubt.contains(COMPLAINT), "{doubt}");
    assert!(!systemd.was_sent("READY=1")?);
    assert_eq!(appliance.exec(["health"])?.code(), 1);

    mend_sshd(&appliance)?;
    systemd.await_word("READY=1")?;
    states::await_log(&appliance, "sshd serves again")?;
    Machine::of(&fleet, "kikimora", &appliance).pull()?;
    assert_eq!(appliance.stop()?, 0);
    Ok(())
}

#[test]
fn an_sshd_that_never_serves_is_tried_again_and_given_up() -> Result<()> {
    let fleet = fleet()?;
    let options = Options {
        // The same C library as the image's.
        podman: vec![format!("--volume=/bin/false:{SSHD}:ro")],
        ..Options::default()
    };
    let appliance = Appliance::launch(fleet.path(), options)?;
    assert_eq!(appliance.exit_code()?, 1);
    let log = appliance.logs()?;
    assert_eq!(log.matches("it is tried again in ").count(), 3, "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("bento: sshd doesn't serve, after 4 attempts; "),
        "{log}"
    );
    assert!(!log.contains("listening"), "{log}");

    appliance.start_again()?;
    states::await_times(&appliance, "it is tried again in ", 5)?;
    assert_eq!(appliance.stop()?, 0, "{}", appliance.logs()?);
    Ok(())
}
