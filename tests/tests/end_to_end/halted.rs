//! The environment under the proof of updates, with the real client: it is halted where a phase begins, and its machine's
//! network is lost.

use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::guest::Features;
use bento_tests::{Appliance, Fleet, Options, Proxy};

use crate::machine::Machine;
use crate::states;
use crate::vm::{Vm, configuration, exits, flake};

const NAME: &str = "kikimora";

fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    fleet.host(NAME, |host| {
        host.file("flake.nix", flake(NAME))?;
        host.file("configuration.nix", configuration("1", ""))?;
        Ok(())
    })?;
    Ok(fleet)
}

/// Changes a file of the machine, and waits until that is published.
fn publish(fleet: &Fleet, machine: &Machine, file: &str, text: String) -> Result<()> {
    let before = machine.pull()?.id();
    fleet.write(&format!("hosts/{NAME}/{file}"), text)?;
    machine.await_other_than(before).map(drop)
}

#[test]
fn an_update_is_halted_where_each_phase_begins_and_goes_on() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let vm = Vm::boot(&fleet, NAME, &appliance)?;
    exits(&vm.update()?, 0);
    publish(
        &fleet,
        &machine,
        "configuration.nix",
        configuration("2", ""),
    )?;

    let mut halted = vm.guest.update_halted_at("pull")?;
    for (phase, version, armed) in [
        ("verify", "1", false),
        ("stage", "1", false),
        ("build", "1", false),
        ("arm", "1", false),
        ("activate", "1", true),
        ("confirm", "2", true),
        ("commit", "2", true),
        ("report", "2", true),
    ] {
        halted.go_on_to(phase)?;
        let left = vm.guest.leftovers()?;
        let has_timer = left
            .iter()
            .any(|line| line.starts_with("unit bento-rollback"));
        assert_eq!(vm.version()?, version, "{phase}");
        assert_eq!(has_timer, armed, "{phase}: {left:?}");
    }
    exits(&halted.go_on()?, 0);
    vm.guest.await_quiet()?;
    states::await_word(&appliance, NAME, "up-to-date")?;
    Ok(())
}

#[test]
fn a_machine_with_a_cable_of_its_own_is_updated_when_the_way_is_there() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let features = Features {
        network: true,
        ..Features::default()
    };
    let vm = Vm::boot_with(features, &fleet, NAME, &appliance)?;
    exits(&vm.update()?, 4);
    let here = vm
        .guest
        .host_address()
        .context("it has a network of its own")?;
    let proxy = Proxy::start_at(here.into(), appliance.address(), Duration::ZERO)?;
    vm.go_through(proxy.address())?;
    // Here, because the proxy's port is one of the inputs.
    let lock = vm.lock(&flake(NAME))?;
    publish(&fleet, &machine, "flake.lock", lock)?;

    proxy.cut();
    exits(&vm.update()?, 4);
    proxy.mend();
    let halted = vm.guest.update_halted_at("build")?;
    vm.guest.shell("ip link set host0 down")?.success()?;
    exits(&halted.go_on()?, 0);
    assert_eq!(states::word(&appliance, NAME)?, "new");
    vm.guest.shell("ip link set host0 up")?.success()?;
    exits(&vm.update()?, 0);
    states::await_word(&appliance, NAME, "up-to-date")?;
    Ok(())
}
