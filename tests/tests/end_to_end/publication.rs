//! What of a fleet folder is published for which machine, and when.

mod content;

mod under_way;
mod unstable;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bento_tests::{Appliance, Fleet, Options};

use crate::generation::Generation;
use crate::machine::Machine;
use crate::states;

/// Longer than the pauses of a copy on a machine that is busy with other tests.
const DEBOUNCE: &str = "debounce = \"2s\"";

/// A fleet of machines that each have one file, with their own name in it.
fn fleet(names: &[&str]) -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    for name in names {
        fleet.host(name, |host| {
            host.file("configuration.nix", name)?;
            Ok(())
        })?;
    }
    Ok(fleet)
}

fn start(fleet: &Fleet) -> Result<Appliance> {
    Appliance::start(fleet.path(), Options::default())
}

fn configuration(name: &str) -> String {
    format!("hosts/{name}/configuration.nix")
}

#[test]
fn each_edit_is_published_as_a_generation_of_its_own() -> Result<()> {
    let fleet = fleet(&["domovoi", "kikimora"])?;
    let appliance = start(&fleet)?;
    let (domovoi, kikimora) = (
        Machine::of(&fleet, "domovoi", &appliance),
        Machine::of(&fleet, "kikimora", &appliance),
    );
    let others = domovoi.pull()?;
    let mut generations = vec![kikimora.pull()?];
    for text in ["first", "second", "kikimora"] {
        fleet.write(&configuration("kikimora"), text)?;
        let before = generations[generations.len() - 1].id();
        let generation = kikimora.await_other_than(before)?;
        assert_eq!(generation.text("config/configuration.nix"), text);
        generations.push(generation);
    }
    let ids: Vec<_> = generations.iter().map(Generation::id).collect();
    // The last edit took the others back, and the id says so.
    assert_eq!(ids[3], ids[0]);
    assert!(
        ids[1] != ids[0] && ids[2] != ids[0] && ids[1] != ids[2],
        "{ids:?}"
    );
    assert_eq!(domovoi.pull()?, others);
    Ok(())
}

#[test]
fn what_is_touched_but_not_changed_is_not_published_again() -> Result<()> {
    let fleet = fleet(&["domovoi", "kikimora"])?;
    let appliance = start(&fleet)?;
    let (domovoi, kikimora) = (
        Machine::of(&fleet, "domovoi", &appliance),
        Machine::of(&fleet, "kikimora", &appliance),
    );
    let (old, before) = (domovoi.pull()?, kikimora.pull()?.id());
    let published = states::of(&appliance, "domovoi")?["published"].clone();
    // Written anew, as an editor does, and with another mode that means nothing to a machine.
    let path = fleet.path().join(configuration("domovoi"));
    fleet.at_once(|| {
        fs::remove_file(&path)?;
        fleet.write(&configuration("domovoi"), "domovoi")?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(0o604),
        )?)
    })?;
    // Changed after it, so that it is published after it would have been.
    fleet.write(&configuration("kikimora"), "changed")?;
    kikimora.await_other_than(before)?;
    assert_eq!(domovoi.pull()?, old);
    assert_eq!(states::of(&appliance, "domovoi")?["published"], published);
    Ok(())
}

#[test]
fn what_is_still_being_copied_is_not_published() -> Result<()> {
    let mut fleet = fleet(&["clock", "copied"])?;
    fleet.publish(DEBOUNCE)?;
    let appliance = start(&fleet)?;
    let (clock, copied) = (
        Machine::of(&fleet, "clock", &appliance),
        Machine::of(&fleet, "copied", &appliance),
    );
    // A machine that is too busy makes pauses in which the folder really is stable.
    for attempt in ["first", "second", "third"] {
        let before = copied.pull()?.id();
        let (longest_pause, meanwhile) = while_copying(&fleet, "copied", || {
            // When another machine's edit was published twice, a copy that had come to rest would have been, too.
            for text in ["once", "twice"] {
                let old = clock.pull()?.id();
                fleet.write(&configuration("clock"), format!("{attempt} {text}"))?;
                clock.await_other_than(old)?;
            }
            Ok(copied.pull()?.id())
        })?;
        let after = copied.await_other_than(before)?;
        let last = after.text("config/last").to_owned();
        if longest_pause < Duration::from_secs(1) {
            assert_eq!(meanwhile, before);
            assert_eq!(after.text(&format!("config/{last}")), last);
            return Ok(());
        }
    }
    bail!("this machine was too busy to copy files without long pauses");
}

/// Does something while files come into a machine's folder, one after the other; `last` names the newest. Gives also
/// the longest pause between two of them.
fn while_copying<T>(
    fleet: &Fleet,
    name: &str,
    act: impl FnOnce() -> Result<T>,
) -> Result<(Duration, T)> {
    let done = AtomicBool::new(false);
    let folder = fleet.path().join("hosts").join(name);
    let copy = || -> Result<Duration> {
        let (mut longest, mut written) = (Duration::ZERO, Instant::now());
        for number in 0.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            fs::write(folder.join(number.to_string()), number.to_string())?;
            fs::write(folder.join("last"), number.to_string())?;
            longest = longest.max(written.elapsed());
            written = Instant::now();
            thread::sleep(Duration::from_millis(100));
        }
        Ok(longest)
    };
    thread::scope(|scope| {
        let copying = scope.spawn(copy);
        let acted = act();
        done.store(true, Ordering::Relaxed);
        let longest_pause = copying.join().unwrap()?;
        Ok((longest_pause, acted?))
    })
}

#[test]
fn nothing_is_published_while_git_is_at_work() -> Result<()> {
    let mut fleet = fleet(&["kikimora"])?;
    let appliance = start(&fleet)?;
    let kikimora = Machine::of(&fleet, "kikimora", &appliance);
    let old = kikimora.pull()?;
    fleet.write(".git/index.lock", "")?;
    fleet.write(&configuration("kikimora"), "half of a commit")?;
    // Who may come in isn't held back; so once the new machine is let in, the edit before was scanned, too.
    fleet.host("leshy", |host| {
        host.file("configuration.nix", "leshy")?;
        Ok(())
    })?;
    let leshy = Machine::of(&fleet, "leshy", &appliance);
    let session = leshy.await_admission()?;
    assert!(session.poll().is_err(), "something is published for leshy");
    assert_eq!(kikimora.pull()?, old);
    assert_eq!(states::word(&appliance, "leshy")?, "unpublished");

    fleet.write(&configuration("kikimora"), "a whole commit")?;
    fleet.remove(".git/index.lock")?;
    let new = kikimora.await_other_than(old.id())?;
    assert_eq!(new.text("config/configuration.nix"), "a whole commit");
    Ok(())
}

#[test]
fn a_paused_machine_keeps_the_generation_that_it_has() -> Result<()> {
    let mut fleet = fleet(&["domovoi", "kikimora"])?;
    let appliance = start(&fleet)?;
    let (domovoi, kikimora) = (
        Machine::of(&fleet, "domovoi", &appliance),
        Machine::of(&fleet, "kikimora", &appliance),
    );
    let (old, before) = (domovoi.pull()?, kikimora.pull()?.id());
    fleet.host("domovoi", |host| {
        host.settings("paused = true");
        Ok(())
    })?;
    states::await_that(&appliance, "domovoi", "be paused", |host| {
        host["paused"] == true
    })?;
    fleet.write(&configuration("domovoi"), "changed")?;
    fleet.write(&configuration("kikimora"), "changed")?;
    kikimora.await_other_than(before)?;
    assert_eq!(domovoi.pull()?, old);
    fleet.host("domovoi", |_| Ok(()))?;
    domovoi.await_other_than(old.id())?;
    Ok(())
}
