//! A machine with real Nix that gets another name: by `bento host rename` and an edit, without a hand on the machine.

use std::process::Command;

use anyhow::Result;
use bento_tests::process::{self, Output};
use bento_tests::{Appliance, Fleet, Options, artifacts, wait};

use crate::machine::Machine;
use crate::states;
use crate::vm::{Vm, configuration, exits, flake};

/// `bento` where the administrator edits.
fn bento(fleet: &Fleet, arguments: &[&str]) -> Result<Output> {
    let mut bento = Command::new(artifacts::binary("bento")?);
    bento.args(arguments).env("BENTO_DIR", fleet.path());
    let output = process::run(&mut bento, process::SHORT)?.success()?;
    fleet.give_away()?;
    Ok(output)
}

/// The configuration of a machine, which says itself what it is called.
fn named(name: &str, version: &str) -> String {
    configuration(
        version,
        &format!("services.bento-client.name = \"{name}\";"),
    )
}

// Issue 10, line 28.
#[test]
fn a_machine_comes_over_to_its_new_name_by_itself() -> Result<()> {
    let mut fleet = Fleet::new()?;
    fleet.host("kikimora", |host| {
        host.file("flake.nix", flake("kikimora"))?;
        host.file("configuration.nix", named("kikimora", "1"))?;
        host.secret("token", "secret")?;
        Ok(())
    })?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let vm = Vm::boot(&fleet, "kikimora", &appliance)?;
    vm.leave_name_to_configuration()?;
    exits(&vm.update()?, 0);
    states::await_word(&appliance, "kikimora", "up-to-date")?;

    let machine = Machine::of(&fleet, "kikimora", &appliance);
    let before = machine.pull()?.id();
    let said = bento(&fleet, &["host", "rename", "kikimora", "leshy"])?.stdout;
    let line = "hosts/leshy/configuration.nix:4: services.bento-client.name = \"kikimora\";";
    assert!(said.contains(line), "{said}");
    fleet.write("hosts/leshy/configuration.nix", named("leshy", "2"))?;
    let renamed = machine.await_other_than(before)?.id();
    // The rename and the edit may have been published one after the other.
    wait::until("the new name to be published", process::SHORT, || {
        let pulled = machine.pull().ok()?;
        let text = pulled.text("config/configuration.nix");
        text.contains("leshy").then_some(())
    })?;
    let status = states::of(&appliance, "leshy")?;
    assert_eq!(status["runs"], 1, "{status}, after {renamed}");

    // It asks by its old name, and has the new one then.
    exits(&vm.update()?, 0);
    assert_eq!(vm.version()?, "2");
    let settings = vm.guest.read_file("/etc/bento/client.toml")?;
    assert!(settings.contains("name = \"leshy\""), "{settings}");
    exits(&vm.update()?, 0);
    let status = states::await_word(&appliance, "leshy", "up-to-date")?;
    assert_eq!(
        status["reported"]["generation"],
        status["published"]["generation"]
    );
    assert_eq!(status["reported"]["running"], vm.system()?);
    assert!(states::of(&appliance, "kikimora").is_err());
    assert_eq!(
        vm.guest.read_file("/var/lib/bento/secrets/token")?,
        "secret"
    );

    // Nothing is left of the old name but what the machine reported by it.
    let toml = std::fs::read_to_string(fleet.path().join("fleet.toml"))?;
    fleet.write(
        "fleet.toml",
        toml.replace("renamed_from = \"kikimora\"\n", ""),
    )?;
    machine.await_dismissal()?;
    exits(&vm.update()?, 0);
    assert_eq!(states::word(&appliance, "leshy")?, "up-to-date");
    let runs = states::of(&appliance, "leshy")?["runs"].as_u64();
    assert!(runs.is_some_and(|runs| runs >= 2), "{runs:?}");
    Ok(())
}
