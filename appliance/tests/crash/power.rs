//! A power cut at every step.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use bento_appliance::store::accounts::Accounts;
use bento_appliance::store::paths::State;
use bento_tests::process::Output;

use crate::appliance::{Appliance, events};
use crate::disk::{Disk, Remains};
use crate::env::CrashEnv;
use crate::fleet::Fleets;
use crate::inspection::{Has, content, inspect};
use crate::tracer::{Next, Step, trace};
use crate::trial::{Trial, require};
use crate::{is_long, stride};

#[test]
fn the_disk_of_these_tests_loses_content_that_was_not_synced() {
    CrashEnv::inside(|env| {
        let disk = Disk::make(&env.path("image"), &env.path("volume"));
        let [synced, unsynced, renamed] =
            ["synced", "unsynced", "renamed"].map(|name| disk.mounted.join(name));
        for path in [&synced, &unsynced, &renamed] {
            fs::write(path, "before").unwrap();
        }
        disk.sync();
        let mut file = fs::File::create(&synced).unwrap();
        file.write_all(b"after").unwrap();
        fs::write(&unsynced, "after").unwrap();
        fs::write(disk.mounted.join("new"), "after").unwrap();
        fs::rename(disk.mounted.join("new"), &renamed).unwrap();
        let found = |name: &str| {
            let remains = disk
                .remains(env.path("copy"))
                .mount(&env.path("after-power-cut"));
            fs::read_to_string(remains.mounted.join(name)).unwrap()
        };
        let names = ["synced", "unsynced", "renamed"];
        assert_eq!(names.map(found), ["before"; 3]);
        file.sync_all().unwrap();
        // The names last now; the content of what wasn't synced itself is nowhere.
        assert_eq!(names.map(found), ["after", "", ""]);
    });
}

#[test]
fn after_a_power_cut_at_any_step_of_its_first_start_its_log_is_true() {
    CrashEnv::inside(|env| {
        let fleets = Fleets::write(env);
        let old = State::new(env.state("old"));
        fs::create_dir(old.root()).unwrap();
        cut_at_every_step(env, &Trial::new(env, &fleets.before, &old));
    });
}

#[test]
fn after_a_power_cut_at_any_step_of_an_edit_every_machine_is_wholly_old_or_wholly_new() {
    CrashEnv::inside(|env| {
        let fleets = Fleets::write(env);
        let old = Appliance::new(env, &fleets.before, env.state("old"));
        old.run_until_ready();
        cut_at_every_step(env, &Trial::new(env, &fleets.after, &old.state));
    });
}

/// Cuts the power before each step of an appliance: checks the disk, and starts another one on it.
fn cut_at_every_step(env: &CrashEnv, trial: &Trial<'_>) {
    let cut = Cut::begin(env, trial.old);
    let appliance = trial.on(&cut.state());
    let steps = Cell::new(0_usize);
    let counts = |_: &Step| steps.replace(steps.get() + 1).is_multiple_of(stride());
    let kept = cut.before_every_step(&appliance, "ready", counts, |found| {
        trial.inspect(found)?;
        keeps_its_promises(&appliance, found)
    });
    // Fewer would prove nothing: each publication and each file of the state is synced.
    let enough = if is_long() { 10 } else { 3 };
    assert!(kept.len() > enough, "only {} different disks", kept.len());
    for (when, remains) in kept {
        let again = remains.mount(&cut.at);
        require(trial.restart(&cut.at.join(STATE)), &when);
        drop(again);
    }
}

const STATE: &str = "state";

/// A power cut of a disk with a state.
pub struct Cut<'a> {
    env: &'a CrashEnv,
    disk: Disk,
    /// The mount point after the cut.
    pub at: PathBuf,
}

impl<'a> Cut<'a> {
    /// Puts a copy of a state on a disk.
    pub fn begin(env: &'a CrashEnv, old: &State) -> Self {
        let disk = Disk::make(&env.path("image"), &env.path("volume"));
        let mut copy = Command::new("cp");
        Output::of(copy.arg("-a").arg(old.root()).arg(disk.mounted.join(STATE))).with(0);
        disk.sync();
        Cut {
            env,
            disk,
            at: env.path("after-power-cut"),
        }
    }

    /// The state on the disk.
    pub fn state(&self) -> PathBuf {
        self.disk.mounted.join(STATE)
    }

    /// Runs an appliance on this disk until its log has an event. Returns the disk after a power cut before each step that
    /// counts, with the step, unless it is the same as before.
    pub fn before_every_step(
        &self,
        appliance: &Appliance<'_>,
        event: &str,
        counts: impl Fn(&Step) -> bool,
        check: impl Fn(&State) -> Result<()>,
    ) -> Vec<(String, Remains)> {
        let mut known = BTreeSet::new();
        let mut kept = Vec::new();
        let mut cut = |when: String| {
            let remains = self
                .disk
                .remains(self.env.path(&format!("image-{}", kept.len())));
            let again = remains.mount(&self.at);
            require(check(&State::new(self.at.join(STATE))), &when);
            // Between two syncs nothing changes on the disk.
            let is_new = known.insert(require(content(&self.at), &when));
            drop(again);
            if is_new {
                kept.push((when, remains));
            }
        };
        trace(appliance, event, |step| {
            if counts(step) {
                cut(format!("power cut before {step:?}"));
            }
            Next::GoOn
        });
        cut("power cut at the end".into());
        kept
    }
}

/// Checks that the disk still agrees with everything that an appliance has logged or sent.
fn keeps_its_promises(before: &Appliance<'_>, found: &State) -> Result<()> {
    let log = before.logged();
    let all = inspect(found)?;
    for event in events(&log, "published") {
        let (name, generation) = (event.field("host"), event.field("generation").parse()?);
        let has = all.get(&name);
        ensure!(
            has == Some(&Has::Generation(generation)),
            "{name} has {has:?}, not what was published"
        );
    }
    for event in events(&log, "enrolled") {
        let name = event.field("host").parse()?;
        let account = |state| anyhow::Ok(Accounts::read(state)?.get(&name).cloned());
        ensure!(
            account(&before.state)? == account(found)?,
            "{name} has another account"
        );
    }
    // From now on machines have seen it.
    if !events(&log, "listening").is_empty() {
        let same = fs::read(before.state.host_key())? == fs::read(found.host_key())?;
        ensure!(same, "the host key is another");
    }
    Ok(())
}
