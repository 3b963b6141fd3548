//! Promise 2, on the appliance's side: what a machine sees is wholly old or wholly new, whatever dies when.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bento_protocol::{GenerationId, Manifest, chroot};
use bento_tests::{Appliance, Fleet, Options, wait};
use nix::sys::signal::{Signal, kill};

use crate::generation::Generation;
use crate::machine::Machine;
use crate::{reports, states};

const NAME: &str = "kikimora";
/// So many that writing them takes a while.
const FILES: usize = 300;
/// A publication takes some 3 s; a machine that is busy with other tests needs more.
const LIMIT: Duration = Duration::from_secs(60);

/// Writes a version into every file of the machine, so that two versions can't be mixed without showing it.
fn write_version(fleet: &Fleet, version: usize) -> Result<()> {
    fleet.at_once(|| write_files(fleet, version))
}

fn write_files(fleet: &Fleet, version: usize) -> Result<()> {
    for number in 0..FILES {
        let path = match number {
            0 => "configuration.nix".to_owned(),
            _ => format!("{}/{number}", number % 7),
        };
        let path = fleet.path().join(format!("hosts/{NAME}")).join(path);
        fs::create_dir_all(path.parent().context("it has a folder")?)?;
        fs::write(path, format!("{version} {}", "filling ".repeat(number)))?;
    }
    fleet.give_away()
}

/// The version of a generation, in which every file must have the same.
fn version(generation: &Generation) -> Result<usize> {
    let paths = generation.paths();
    ensure!(
        paths.len() == FILES,
        "{} has {} files",
        generation.id(),
        paths.len()
    );
    let versions: BTreeSet<_> = paths
        .into_iter()
        .filter_map(|path| generation.text(path).split(' ').next())
        .collect();
    ensure!(
        versions.len() == 1,
        "{} mixes the versions {versions:?}",
        generation.id()
    );
    Ok(versions.first().context("there are no files")?.parse()?)
}

fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    fleet.host(NAME, |_| Ok(()))?;
    write_version(&fleet, 0)?;
    Ok(fleet)
}

#[test]
fn what_is_read_in_one_session_is_always_of_one_generation() -> Result<()> {
    const VERSIONS: usize = 5;
    let mut fleet = fleet()?;
    // So that each version stands for long enough to be read.
    fleet.publish("debounce = \"2s\"")?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let done = AtomicBool::new(false);
    // One connection after the other, each read from beginning to end.
    let read_all_along = || -> Result<BTreeSet<usize>> {
        let mut seen = BTreeSet::new();
        while !done.load(Ordering::Relaxed) {
            seen.insert(version(&machine.pull()?)?);
        }
        Ok(seen)
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(read_all_along), scope.spawn(read_all_along)];
        let edited = (1..=VERSIONS).try_for_each(|next| {
            let before = machine.pull()?.id();
            write_version(&fleet, next)?;
            machine.await_other_than(before).map(drop)
        });
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let seen = reader.join().unwrap()?;
            // A few pulls would prove little.
            assert!(seen.len() > VERSIONS / 2, "only {seen:?} were seen");
        }
        edited
    })
}

#[test]
fn a_session_stays_in_the_generation_in_which_it_began() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let session = machine.log_in()?;
    let old = session.pull()?;
    // Two, so that the old one would have been cleared away, if it ever were too soon.
    write_version(&fleet, 1)?;
    let second = machine.await_other_than(old.id())?;
    write_version(&fleet, 2)?;
    let third = machine.await_other_than(second.id())?;
    assert_eq!(session.pull()?, old);
    // What it reports there isn't lost.
    session.leave(&reports::success(third.id()))?;
    drop(session);
    states::await_word(&appliance, NAME, "up-to-date")?;
    Ok(())
}

/// What the appliance has on its disk for the machine.
struct Disk(PathBuf);

/// How far a publication has come, as far as its disk shows it.
#[derive(Debug, Clone, Copy)]
enum Progress {
    /// Nothing, too, while the folder settles.
    Files(usize),
    Manifest,
    Bundle,
    Delta,
    Record,
    History,
    Named,
    Switched,
}

impl Disk {
    fn of(appliance: &Appliance) -> Result<Self> {
        Ok(Disk(appliance.host_folder(NAME)?))
    }

    /// The number of the published folder.
    fn current(&self) -> Result<u64> {
        let target = fs::read_link(self.0.join("current"))?;
        let number = target.iter().nth(1).and_then(|number| number.to_str());
        Ok(number.context("current leads elsewhere")?.parse()?)
    }

    /// What a session would find, every byte checked.
    fn published(&self) -> Result<Generation> {
        let root = self.0.join("current");
        let read = |path: &str| fs::read(root.join(path.trim_start_matches('/')));
        let id: GenerationId = fs::read_link(root.join("generation"))?
            .to_str()
            .context("it isn't text")?
            .parse()?;
        let generation =
            Generation::of_bundle(id, &read(chroot::MANIFEST)?, &read(chroot::BUNDLE)?)?;
        in_plain_sight(&root, &generation.manifest)?;
        Ok(generation)
    }

    /// Waits until the publication that follows a number has come so far, or farther.
    fn await_progress(&self, progress: Progress, after: u64) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !self.has_come(progress, after) && !self.has_come(Progress::Switched, after) {
            ensure!(Instant::now() < deadline, "waited in vain for {progress:?}");
            // A publication takes a few hundredths of a second.
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether the publication that follows a number has come so far.
    fn has_come(&self, progress: Progress, after: u64) -> bool {
        let next = after + 1;
        let partial = self.0.join(format!("publications/{next}.partial"));
        match progress {
            Progress::Files(count) => count_files(&partial.join("chroot/config")) >= count,
            Progress::Manifest => partial.join("chroot/manifest.json").exists(),
            Progress::Bundle => partial.join("chroot/bundle.tar.gz").exists(),
            Progress::Delta => partial.join("chroot/delta").exists(),
            Progress::Record => partial.join("published.json").exists(),
            Progress::History => self.0.join(format!("manifests/{next}.json")).exists(),
            Progress::Named => self.0.join(format!("publications/{next}")).exists(),
            Progress::Switched => self.current().is_ok_and(|current| current == next),
        }
    }
}

/// Checks the files that any client of SFTP sees.
fn in_plain_sight(root: &Path, manifest: &Manifest) -> Result<()> {
    for file in manifest.files().iter().filter_map(|entry| entry.file()) {
        let content = fs::read(root.join(file.path.as_str()))?;
        ensure!(
            bento_protocol::Digest::of(content) == file.sha256,
            "{} isn't what the manifest says",
            file.path
        );
    }
    ensure!(
        count_files(&root.join("config")) == manifest.files().len(),
        "there are more files than the manifest says"
    );
    Ok(())
}

fn count_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count_files(&entry.path()),
            _ => 1,
        })
        .sum()
}

#[test]
fn killed_while_it_writes_a_publication_it_has_the_old_one() -> Result<()> {
    let moments = [
        Progress::Files(0),
        Progress::Files(1),
        Progress::Files(FILES / 4),
        Progress::Files(FILES / 2),
        Progress::Files(FILES),
        Progress::Manifest,
        Progress::Bundle,
    ];
    let old_ones = kill_at(&moments)?;
    // On a busy machine it may get farther before it dies; but if it always did, nothing was proven.
    assert!(
        old_ones > moments.len() / 2,
        "only {old_ones} deaths came before the switch"
    );
    Ok(())
}

#[test]
fn killed_while_it_switches_to_a_publication_it_has_the_old_one_or_the_new_one() -> Result<()> {
    kill_at(&[
        Progress::Delta,
        Progress::Record,
        Progress::Record,
        Progress::History,
        Progress::History,
        Progress::Named,
        Progress::Named,
        Progress::Switched,
    ])?;
    Ok(())
}

/// Kills the appliance at each of these moments of a publication, checks what it has, and starts it again. Gives
/// how often that was the old one.
fn kill_at(moments: &[Progress]) -> Result<usize> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let disk = Disk::of(&appliance)?;
    let mut old_ones = 0;
    for (moment, next) in moments.iter().copied().zip(1..) {
        let number = disk.current()?;
        let first_process = appliance.first_process()?;
        write_version(&fleet, next)?;
        disk.await_progress(moment, number)?;
        kill(first_process, Signal::SIGKILL)?;
        appliance.exit_code()?;

        let found = disk
            .published()
            .with_context(|| format!("killed at {moment:?}"))?;
        let found = version(&found)?;
        assert!(
            [next - 1, next].contains(&found),
            "{found} was found at {moment:?}"
        );
        old_ones += usize::from(found == next - 1);

        appliance.restart()?;
        wait::until("the new version", LIMIT, || {
            let published = machine.pull().and_then(|generation| version(&generation));
            match published {
                Ok(version) if version == next => Some(Ok(())),
                Ok(version) if version == next - 1 => None,
                other => Some(Err(anyhow::anyhow!("after {moment:?}: {other:?}"))),
            }
        })??;
        let left = fs::read_dir(disk.0.join("publications"))?;
        for entry in left {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            assert!(
                !name.ends_with(".partial"),
                "{name} is left after {moment:?}"
            );
        }
    }
    Ok(old_ones)
}
