//! `bento status` on the administrator's machine, which reaches the appliance by podman.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options, Podman, artifacts, process, wait};
use serde_json::Value;

use crate::machine::Machine;
use crate::reports;

/// It ends within a second; a machine that is busy with other tests needs more.
const LIMIT: Duration = Duration::from_secs(60);

/// A fleet of one machine, and its appliance, to which `[server] admin` leads.
fn env() -> Result<(Fleet, Appliance)> {
    let name = format!("bento-test-admin-{}", std::process::id());
    let podman = Podman::new()?.command();
    let mut admin = vec![podman.get_program().to_string_lossy().into_owned()];
    admin.extend(podman.get_args().map(|part| part.to_string_lossy().into()));
    admin.extend(["exec", "-i", &name].map(str::to_owned));
    let mut fleet = Fleet::new()?;
    let admin = serde_json::to_string(&admin)?;
    fleet.server(&format!("address = \"127.0.0.1\"\nadmin = {admin}"))?;
    fleet.host("kikimora", |host| {
        host.file("configuration.nix", "{ }")?;
        Ok(())
    })?;
    let options = Options {
        name: Some(name),
        ..Options::default()
    };
    let appliance = Appliance::start(fleet.path(), options)?;
    Ok((fleet, appliance))
}

fn status(fleet: &Fleet, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(artifacts::binary("bento")?);
    command.args(["status", "--fleet"]).arg(fleet.path());
    // The folder of a test may be closed to podman's user.
    command.args(arguments).current_dir("/");
    Ok(command)
}

/// What follows the status, and what it prints.
struct Follower {
    program: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn next(&mut self) -> Result<Value> {
        let line = self.lines.next().context("it has ended")??;
        Ok(serde_json::from_str(&line)?)
    }
}

/// The commands that run in a container beside its first process.
fn guests(appliance: &Appliance) -> Result<Vec<String>> {
    let first = appliance.first_process()?.as_raw();
    let space = |process: &str| fs::metadata(format!("/proc/{process}/ns/pid")).map(|it| it.ino());
    let here = space(&first.to_string())?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.file_name().to_string_lossy().into_owned();
        if process != first.to_string() && space(&process).is_ok_and(|space| space == here) {
            let line = fs::read_to_string(format!("/proc/{process}/cmdline"));
            found.push(line.unwrap_or_default().replace('\0', " "));
        }
    }
    Ok(found)
}

#[test]
fn the_administrators_own_bento_shows_and_follows_what_the_appliance_knows() -> Result<()> {
    let (fleet, appliance) = env()?;
    let table = process::run(&mut status(&fleet, &[])?, process::SHORT)?.success()?;
    assert!(table.stdout.contains("kikimora  new "), "{}", table.stdout);
    let json = process::run(&mut status(&fleet, &["--json"])?, process::SHORT)?.success()?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    assert_eq!(json["hosts"], appliance.status_json()?["hosts"]);

    let mut command = status(&fleet, &["--json", "--watch"])?;
    let mut program = command.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(program.stdout.take().context("a pipe")?).lines();
    let mut follower = Follower { program, lines };
    assert_eq!(follower.next()?["hosts"][0]["state"], "new");
    let kikimora = Machine::of(&fleet, "kikimora", &appliance);
    let published = kikimora.log_in()?.poll()?;
    kikimora.log_in()?.leave(&reports::success(published))?;
    // Its contacts are changes, too.
    while follower.next()?["hosts"][0]["state"] != "up-to-date" {}

    let asked = |line: &String| line.contains("status --json --watch");
    assert!(guests(&appliance)?.iter().any(asked));
    // A killed process can't say goodbye.
    follower.program.kill()?;
    follower.program.wait()?;
    wait::until("nothing follows in the container any more", LIMIT, || {
        let left = guests(&appliance).ok()?;
        (!left.iter().any(asked)).then_some(())
    })
}
