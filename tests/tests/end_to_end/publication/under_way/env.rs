//! A machine whose folder others change, and all that is published for it meanwhile.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bento_protocol::GenerationId;
use bento_tests::{Appliance, Fleet, Podman, process, wait};

use super::super::{DEBOUNCE, fleet, start};
use super::NAME;
use crate::generation::Generation;
use crate::machine::Machine;
use crate::states;

/// Another machine, whose edits show that time has passed.
const CLOCK: &str = "clock";
/// How many files of a tree the other one has, too, with another content; it has as many that this one hasn't.
const FILES: usize = 300;
/// A machine that is too busy makes pauses in which the folder really is stable: then it is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
pub(super) const ATTEMPTS: usize = 4;

/// Files by their path in the machine's folder.
pub(super) type Tree = BTreeMap<String, String>;

/// One of two trees, in which no file is the same.
pub(super) fn tree(version: usize) -> Tree {
    let numbers = version * FILES..(version + 2) * FILES;
    let file = |number: usize| {
        let path = format!("{}/{}/{number}.nix", number % 7, number % 3);
        (
            path,
            format!("{version} {}", "filling ".repeat(number % 200)),
        )
    };
    let entry = ("configuration.nix".to_owned(), version.to_string());
    numbers.map(file).chain([entry]).collect()
}

pub(super) fn write_tree(folder: &Path, tree: &Tree) -> Result<()> {
    for (path, text) in tree {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("it has a folder")?)?;
        fs::write(path, text)?;
    }
    Ok(())
}

pub(super) fn tree_of(generation: &Generation) -> Result<Tree> {
    let files = generation.contents.iter().map(|(path, content)| {
        let path = path.trim_start_matches("config/").to_owned();
        Ok((path, String::from_utf8(content.clone())?))
    });
    files.collect()
}

/// A machine whose folder is changed by others.
pub(super) struct CopyEnv {
    pub(super) fleet: Fleet,
    pub(super) appliance: Appliance,
    pub(super) machine: Machine,
}

impl CopyEnv {
    pub(super) fn new(first: &Tree) -> Result<Self> {
        let mut fleet = fleet(&[CLOCK, NAME])?;
        fleet.publish(DEBOUNCE)?;
        let folder = fleet.path().join("hosts").join(NAME);
        fs::remove_file(folder.join("configuration.nix"))?;
        write_tree(&folder, first)?;
        fleet.give_away()?;
        let appliance = start(&fleet)?;
        let machine = Machine::of(&fleet, NAME, &appliance);
        assert_eq!(tree_of(&machine.pull()?)?, *first);
        Ok(CopyEnv {
            fleet,
            appliance,
            machine,
        })
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.fleet.path().join("hosts").join(NAME)
    }

    pub(super) fn await_tree(&self, tree: &Tree) -> Result<GenerationId> {
        wait::until("the last tree to be published", process::SHORT, || {
            let generation = self.machine.pull().ok()?;
            (tree_of(&generation).ok()? == *tree).then(|| generation.id())
        })
    }

    /// Does something to the folder, and gives all that was published from before until `last` was, and the longest
    /// time for which nothing changed meanwhile.
    pub(super) fn collect_while(
        &self,
        act: impl FnOnce() -> Result<()>,
        last: &Tree,
    ) -> Result<(BTreeMap<GenerationId, Tree>, Duration)> {
        let (done, still) = (AtomicBool::new(false), AtomicBool::new(false));
        let collect = || -> Result<BTreeMap<GenerationId, Tree>> {
            let mut seen = BTreeMap::new();
            while !done.load(Ordering::Relaxed) {
                let session = self.machine.log_in()?;
                let id = session.poll()?;
                if let Entry::Vacant(new) = seen.entry(id) {
                    new.insert(tree_of(&session.pull()?)?);
                }
            }
            Ok(seen)
        };
        let watch = || {
            let (mut state, mut since) = (Vec::new(), Instant::now());
            let mut longest = Duration::ZERO;
            while !still.load(Ordering::Relaxed) {
                let now = fingerprint_of(&self.folder());
                if now != state {
                    (state, since) = (now, Instant::now());
                }
                longest = longest.max(since.elapsed());
                thread::sleep(Duration::from_millis(10));
            }
            longest
        };
        thread::scope(|scope| {
            let (collecting, watching) = (scope.spawn(collect), scope.spawn(watch));
            let acted = act();
            still.store(true, Ordering::Relaxed);
            let awaited = acted.and_then(|()| self.await_tree(last));
            done.store(true, Ordering::Relaxed);
            let seen = collecting.join().expect("it doesn't panic")?;
            awaited?;
            Ok((seen, watching.join().expect("it doesn't panic")))
        })
    }

    /// Does something that ends with one of these trees, until it was done without long pauses, and checks that nothing
    /// else was published meanwhile. `act` and `last` are given the number of the attempt.
    pub(super) fn only_these_while(
        &self,
        trees: &[Tree],
        last: impl Fn(usize) -> usize,
        act: impl Fn(usize) -> Result<()>,
    ) -> Result<BTreeMap<GenerationId, Tree>> {
        for attempt in 0..ATTEMPTS {
            let (seen, pause) = self.collect_while(|| act(attempt), &trees[last(attempt)])?;
            let other = seen.values().find(|tree| !trees.contains(tree));
            match other {
                None => return Ok(seen),
                Some(other) if pause < LONGEST_PAUSE => {
                    let paths: Vec<_> = other.keys().collect();
                    bail!("published, though the longest pause was {pause:?}: {paths:?}");
                }
                Some(_) => {}
            }
        }
        bail!("this machine was too busy to change a folder without long pauses");
    }

    pub(super) fn published(&self) -> Result<serde_json::Value> {
        Ok(states::of(&self.appliance, NAME)?["published"].clone())
    }

    /// Waits until an edit that was made after all else was published, so that all else would have been, too.
    pub(super) fn let_another_edit_pass(&self) -> Result<()> {
        let clock = Machine::of(&self.fleet, CLOCK, &self.appliance);
        let old = clock.pull()?.id();
        let text = format!("after {}", old.short());
        self.fleet
            .write(&super::super::configuration(CLOCK), text)?;
        clock.await_other_than(old)?;
        Ok(())
    }

    pub(super) fn git(&self, arguments: &[&str]) -> Result<()> {
        let mut git = Podman::new()?.as_user("git");
        git.arg("-C").arg(self.fleet.path());
        git.args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@x",
            "-c",
            "gc.auto=0",
        ]);
        process::run(git.args(arguments), process::SHORT)?.success()?;
        Ok(())
    }
}

/// What differs when anything in a folder has changed.
fn fingerprint_of(folder: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let mut fingerprint = Vec::new();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if let Ok(data) = fs::symlink_metadata(&path) {
            if data.is_dir() {
                fingerprint.extend(fingerprint_of(&path));
            }
            fingerprint.push((path, data.ino(), data.ctime(), data.ctime_nsec()));
        }
    }
    fingerprint.sort();
    fingerprint
}
