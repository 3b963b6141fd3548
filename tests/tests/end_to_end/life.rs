//! A machine's life with real Nix, as its status shows it.

use anyhow::Result;
use bento_tests::{Appliance, Fleet, Options};

use crate::machine::Machine;
use crate::states;
use crate::vm::{Vm, configuration, exits, flake};

#[test]
fn a_machine_comes_up_to_date_is_edited_fails_is_mended_and_drifts() -> Result<()> {
    let mut fleet = Fleet::new()?;
    for name in ["domovoi", "kikimora"] {
        fleet.host(name, |host| {
            host.file("flake.nix", flake(name))?;
            host.file("configuration.nix", configuration("1", ""))?;
            Ok(())
        })?;
    }
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    let edit = |text: String| -> Result<()> {
        let before = machine.pull()?.id();
        fleet.write("hosts/kikimora/configuration.nix", text)?;
        machine.await_other_than(before).map(drop)
    };
    let vm = Vm::boot(&fleet, "kikimora", &appliance)?;
    assert_eq!(states::word(&appliance, "kikimora")?, "new");

    let first = vm.update()?;
    exits(&first, 0);
    assert!(first.stdout.contains("as a bundle"), "{}", first.stdout);
    let status = states::await_word(&appliance, "kikimora", "up-to-date")?;
    assert_eq!(
        status["reported"]["generation"],
        status["published"]["generation"]
    );
    assert_eq!(status["reported"]["running"], vm.system()?);
    assert_eq!(vm.version()?, "1");
    let first_system = vm.system()?;

    edit(configuration("2", ""))?;
    assert_eq!(states::word(&appliance, "kikimora")?, "rebuild-pending");
    let second = vm.update()?;
    exits(&second, 0);
    assert!(second.stdout.contains("as a delta"), "{}", second.stdout);
    states::await_word(&appliance, "kikimora", "up-to-date")?;
    assert_eq!(vm.version()?, "2");
    let second_system = vm.system()?;

    edit(configuration(
        "3",
        "environment.etc.broken.text = pkgz.hello;",
    ))?;
    for _ in 0..2 {
        let failed = vm.update()?;
        exits(&failed, 1);
        assert!(
            failed.stderr.contains("undefined variable 'pkgz'"),
            "{}",
            failed.stderr
        );
    }
    let status = states::await_word(&appliance, "kikimora", "failing")?;
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("undefined variable 'pkgz'"), "{error}");
    let table = appliance.exec(["status"])?.success()?.stdout;
    assert!(table.contains("undefined variable 'pkgz'"), "{table}");
    assert_eq!(vm.system()?, second_system);

    edit(configuration("3", ""))?;
    exits(&vm.update()?, 0);
    states::await_word(&appliance, "kikimora", "up-to-date")?;

    // Somebody goes back by hand; nothing is published meanwhile.
    let by_hand = format!("{first_system}/bin/switch-to-configuration switch");
    vm.guest.shell(&by_hand)?.success()?;
    exits(&vm.update()?, 0);
    let status = states::await_word(&appliance, "kikimora", "drifted")?;
    assert_eq!(status["reported"]["running"], first_system);
    assert_eq!(vm.version()?, "1");

    assert_eq!(states::word(&appliance, "domovoi")?, "new");
    Ok(())
}
