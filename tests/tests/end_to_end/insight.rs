//! What an administrator learns of a machine by `podman exec bento bento diff` and `… logs`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_protocol::GenerationId;
use bento_tests::{Appliance, Fleet, Options, Podman, wait};

use crate::machine::Machine;
use crate::{reports, states};

const NAME: &str = "kikimora";

#[test]
fn what_changed_since_the_generation_that_a_machine_runs_is_shown_though_another_came_between()
-> Result<()> {
    let mut fleet = Fleet::new()?;
    fleet.host(NAME, |host| {
        host.file("configuration.nix", "the first\n")?;
        host.secret("wifi", "a password")?;
        Ok(())
    })?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let first = machine.log_in()?.poll()?;
    let mut report = reports::success(first);
    report.log = "building the first\n".to_owned();
    machine.log_in()?.leave(&report)?;
    states::await_runs(&appliance, NAME, 1)?;
    let mut last = first;
    for text in ["the second\n", "the third\n"] {
        fleet.write(&format!("hosts/{NAME}/configuration.nix"), text)?;
        last = machine.await_other_than(last)?.id();
    }
    let host = appliance.host_folder(NAME)?;
    wait::until(
        "old publications to be gone",
        Duration::from_secs(60),
        || {
            // It scans when something happens in the fleet folder, and each 30 s.
            fleet.write("file~", "").ok()?;
            let left = fs::read_dir(host.join("publications")).ok()?;
            (left.count() == 1).then_some(())
        },
    )?;

    let diff = appliance.exec(["diff"])?.success()?.stdout;
    let expected = format!(
        "\
{NAME}: {} → {}
changed config/configuration.nix
--- config/configuration.nix
+++ config/configuration.nix
@@ -1 +1 @@
-the first
+the third

Can't compare packages: Nix isn't installed here.
",
        first.short(),
        last.short()
    );
    assert_eq!(diff, expected);
    let logs = appliance.exec(["logs", NAME])?.success()?.stdout;
    ensure!(logs.contains(&first.short()), "{logs}");
    let whole = appliance.exec(["logs", NAME, "--run", "latest"])?;
    let whole = whole.success()?.stdout;
    ensure!(whole.ends_with("\nbuilding the first\n"), "{whole}");
    follow(&appliance, &machine, last)
}

/// As `bento logs --follow` asks from elsewhere: each report is printed as it comes, and nothing is left running in the
/// container when the command has ended.
fn follow(appliance: &Appliance, machine: &Machine, published: GenerationId) -> Result<()> {
    let mut command = Podman::new()?.command();
    command.args(["exec", "-i", appliance.name(), "bento", "logs", NAME]);
    command.args(["--follow", "--until-input-ends"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let said = child.stdout.take().context("it has an output")?;
    let mut lines = BufReader::new(said).lines();
    let mut next = || {
        lines
            .next()
            .context("it ended")?
            .context("it can't be read")
    };
    let before = next()?;
    machine.log_in()?.leave(&reports::success(published))?;
    let news = next()?;
    ensure!(news.contains(&published.short()), "{before}, then {news}");
    drop(child.stdin.take());
    // Its output ends when the program in the container has.
    ensure!(lines.next().is_none(), "it said more");
    ensure!(child.wait()?.success(), "it failed");
    Ok(())
}
