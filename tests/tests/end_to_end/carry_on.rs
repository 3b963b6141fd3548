//! A system must let the machine go on asking for the next one.

use anyhow::Result;
use bento_tests::{Appliance, Fleet, Options};

use crate::computer::{Computer, configuration, exits, flake};
use crate::machine::Machine;
use crate::states;

const NAME: &str = "kikimora";

/// What would stop the client from its next start on, though it runs to the end of this one.
const DEAD_ENDS: [(&str, &str); 2] = [
    (
        "services.bento-client.settings.colour = \"red\";",
        "unknown field `colour`",
    ),
    (
        "services.bento-client.identityFile = \"/var/lib/bento/another\";",
        "/var/lib/bento/another",
    ),
];

#[test]
fn a_system_whose_client_could_not_run_again_is_rolled_back() -> Result<()> {
    let mut fleet = Fleet::new()?;
    fleet.host(NAME, |host| {
        host.file("flake.nix", flake(NAME))?;
        host.file("configuration.nix", configuration("1", ""))?;
        Ok(())
    })?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let computer = Computer::boot(&fleet, NAME, &appliance)?;
    exits(&computer.update()?, 0);

    for (version, (setting, reason)) in ["2", "3"].iter().zip(DEAD_ENDS) {
        let before = machine.pull()?.id();
        fleet.write(
            &format!("hosts/{NAME}/configuration.nix"),
            configuration(version, setting),
        )?;
        machine.await_other_than(before)?;
        let update = computer.update()?;
        exits(&update, 3);
        assert!(update.stderr.contains(reason), "{}", update.stderr);
        assert_eq!(computer.version()?, "1");
        let told = states::await_word(&appliance, NAME, "rolled-back")?;
        assert!(
            told["error"].as_str().unwrap_or_default().contains(reason),
            "{told}"
        );
        computer.guest.await_quiet()?;
    }
    Ok(())
}
