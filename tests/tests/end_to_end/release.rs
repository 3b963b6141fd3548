//! Nothing is published before an administrator lets it out, where the fleet wants that.

use std::process::Command;

use anyhow::Result;
use bento_tests::fleet::SHORT;
use bento_tests::process::{self, Output};
use bento_tests::{Appliance, Fleet, Options, artifacts, wait};

use crate::machine::Machine;
use crate::{reports, states};

/// `bento deploy` of an administrator who lets nobody else read what they write, and builds nothing.
fn deploy(fleet: &Fleet, appliance: &Appliance, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new("sh");
    command.args(["-c", r#"umask 077; exec "$0" deploy --no-build "$@""#]);
    command.arg(artifacts::binary("bento")?);
    command.arg("--fleet").arg(fleet.path());
    command.arg("--state").arg(appliance.state_folder()?);
    process::run(command.args(arguments), process::SHORT)
}

#[test]
fn a_machine_finds_what_was_approved_and_nothing_else() -> Result<()> {
    let mut fleet = Fleet::new()?;
    fleet.publish(&format!("when = \"deploy\"\ndebounce = \"{SHORT}\""))?;
    for name in ["domovoi", "kikimora"] {
        fleet.host(name, |host| {
            host.file("configuration.nix", name)?;
            Ok(())
        })?;
    }
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let kikimora = Machine::of(&fleet, "kikimora", &appliance);
    kikimora.await_admission()?;
    let status = states::await_word(&appliance, "kikimora", "unpublished")?;
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("`bento deploy kikimora`"), "{error}");

    let asked = deploy(&fleet, &appliance, &["kikimora"])?;
    assert_eq!(asked.code(), 1, "nobody is there to answer");
    assert!(asked.stderr.contains("use --yes"), "{}", asked.stderr);
    let said = deploy(&fleet, &appliance, &["--yes", "kikimora"])?.success()?;
    assert!(said.stdout.contains("new: 1 file"), "{}", said.stdout);
    states::await_word(&appliance, "kikimora", "new")?;
    let first = kikimora.pull()?.id();
    assert_eq!(states::word(&appliance, "domovoi")?, "unpublished");
    kikimora.log_in()?.leave(&reports::success(first))?;
    states::await_word(&appliance, "kikimora", "up-to-date")?;

    fleet.write("hosts/kikimora/configuration.nix", "edited")?;
    let waits = "has changed, and isn't approved yet: `bento deploy kikimora` publishes it";
    states::await_log(&appliance, waits)?;
    let table = appliance.exec(["status"])?.success()?.stdout;
    assert!(table.contains(waits), "{table}");
    let status = states::of(&appliance, "kikimora")?;
    assert_eq!(
        (&status["state"], &status["error"]),
        (&"up-to-date".into(), &().into())
    );
    assert_eq!(kikimora.log_in()?.poll()?, first);

    let said = deploy(&fleet, &appliance, &["--yes", "kikimora"])?.success()?;
    let changed = "changed: config/configuration.nix";
    assert!(said.stdout.contains(changed), "{}", said.stdout);
    let second = kikimora.await_other_than(first)?;
    assert_eq!(second.text("config/configuration.nix"), "edited");
    let what = "the reminder to be gone";
    wait::until(what, process::SHORT, || {
        let table = appliance.exec(["status"]).ok()?.stdout;
        (!table.contains(waits)).then_some(())
    })?;

    // Where the appliance runs nothing can be approved: it can't write there.
    let within = appliance.exec(["deploy", "--yes", "domovoi"])?;
    assert_eq!(within.code(), 1);
    assert!(
        within.stderr.contains("Run this where you edit the fleet"),
        "{}",
        within.stderr
    );
    Ok(())
}
