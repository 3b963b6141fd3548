//! A fleet folder that goes away under the running appliance.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::thread;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{add, await_problem};
use crate::machine::Machine;
use crate::{reports, states};

/// Where the container has its fleet folder.
const CONFIG: &str = "/config";

/// Does something where the container's mounts are.
fn among_its_mounts(appliance: &Appliance, act: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let namespace = File::open(format!("/proc/{}/ns/mnt", appliance.first_process()?))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Only a thread with a working folder of its own may change to other mounts.
            unshare(CloneFlags::CLONE_FS)?;
            setns(namespace, CloneFlags::CLONE_NEWNS)?;
            act()
        });
        thread.join().expect("it doesn't panic")
    })
}

/// What lies in the fleet folder, to be mounted elsewhere.
fn mount_of(fleet: &Fleet) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, fleet.path(), flags)?)
}

fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    for name in ["domovoi", "kikimora"] {
        add(&mut fleet, name)?;
    }
    Ok(fleet)
}

#[test]
fn a_fleet_folder_that_is_unmounted_removes_nobody_and_is_followed_again_when_it_is_back()
-> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let kikimora = Machine::of(&fleet, "kikimora", &appliance);
    let old = kikimora.pull()?;
    among_its_mounts(&appliance, || Ok(umount2(CONFIG, MntFlags::MNT_DETACH)?))?;
    await_problem(&appliance, &["fleet.toml: ", "can't be read"])?;
    for name in ["domovoi", "kikimora"] {
        let gone = format!("hosts/{name}: isn't there");
        states::await_that(&appliance, name, "have a problem", |host| {
            host["error"]
                .as_str()
                .is_some_and(|error| error.contains(&gone))
        })?;
    }
    // It is served and heard as before.
    assert_eq!(kikimora.pull()?, old);
    let session = kikimora.log_in()?;
    session.leave(&reports::success(session.poll()?))?;
    states::await_word(&appliance, "kikimora", "up-to-date")?;

    let mount = mount_of(&fleet)?;
    among_its_mounts(&appliance, || {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(mount, "", CWD, CONFIG, flags)?)
    })?;
    fleet.write("hosts/kikimora/configuration.nix", "changed")?;
    let new = kikimora.await_other_than(old.id())?;
    assert_eq!(new.text("config/configuration.nix"), "changed");
    states::await_that(&appliance, "domovoi", "be well again", |host| {
        host["error"].is_null()
    })?;
    let problems = &appliance.status_json()?["problems"];
    assert!(problems.as_array().is_some_and(Vec::is_empty), "{problems}");
    Ok(())
}

#[test]
fn a_replaced_fleet_folder_is_reported_with_advice() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let kikimora = Machine::of(&fleet, "kikimora", &appliance);
    let old = kikimora.pull()?;
    let settings = fs::read(fleet.path().join("fleet.toml"))?;
    fs::remove_dir_all(fleet.path())?;
    fs::create_dir(fleet.path())?;
    for name in ["domovoi", "kikimora"] {
        fleet.write(&format!("hosts/{name}/configuration.nix"), "new")?;
    }
    fleet.write("fleet.toml", settings)?;
    await_problem(
        &appliance,
        &["the fleet folder: ", "replaced", "restart the container"],
    )?;
    assert_eq!(kikimora.pull()?, old);
    appliance.restart()?;
    let new = kikimora
        .await_other_than(old.id())
        .context("after the restart")?;
    assert_eq!(new.text("config/configuration.nix"), "new");
    Ok(())
}
