//! Processes that the appliance never started, and has to reap all the same.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use bento_tests::{Appliance, Options, process, wait};

use super::fleet;

/// Each is a grandchild whose parent ends at once, and itself soon after.
const ORPHANS: &str = "
    number=0
    while [ $number -lt 1000 ]; do
        (sleep 0.$((number % 5)) &)
        number=$((number + 1))
    done
";

/// The processes of a container but its first: what `/proc` calls their states.
fn others(namespace: &Path, first: u32) -> Vec<char> {
    let numbers = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let state = |number: u32| {
        // Any process may end meanwhile.
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        let theirs = fs::read_link(format!("/proc/{number}/ns/pid")).ok()?;
        let (_, state) = stat.rsplit_once(") ")?;
        state.chars().next().filter(|_| theirs == namespace)
    };
    numbers
        .filter(|number| *number != first)
        .filter_map(state)
        .collect()
}

#[test]
fn a_thousand_orphans_leave_no_zombie() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let first = appliance.first_process()?.to_string();
    let namespace = fs::read_link(format!("/proc/{first}/ns/pid"))?;
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &first, "--pid", "sh", "-c", ORPHANS]);
    process::run(&mut nsenter, process::LONG)?.success()?;
    let first = first.parse()?;
    let mut left = Vec::new();
    wait::until("all orphans to be gone", Duration::from_secs(60), || {
        left = others(&namespace, first);
        left.is_empty().then_some(())
    })
    .map_err(|error| error.context(format!("{left:?}")))?;
    appliance.exec(["health"])?.success()?;
    Ok(())
}
