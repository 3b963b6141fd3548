//! Many publications while clients download all along: nobody sees a mixture, nobody's download fails, and
//! nothing old is left, except where a session stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_protocol::{Digest, GenerationId, Manifest, chroot};
use bento_tests::length::at_length;
use bento_tests::{Appliance, Fleet, Options, wait};

use crate::generation::Generation;
use crate::machine::Machine;

const MACHINES: usize = 20;
/// The files that each edit changes.
const FILES: usize = 10;
/// No edit changes this one: whatever is left over is as large as this, and larger than all deltas and manifests that
/// there should be.
const LARGE: usize = 384 << 10;
const LIMIT: Duration = Duration::from_secs(60);

struct EnduranceEnv {
    appliance: Appliance,
    fleet: Fleet,
    done: AtomicBool,
    downloads: AtomicUsize,
}

fn name(number: usize) -> String {
    format!("m{number:02}")
}

/// What doesn't compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

fn write_version(fleet: &Fleet, version: usize) -> Result<()> {
    fleet.at_once(|| write_files(fleet, version))
}

fn write_files(fleet: &Fleet, version: usize) -> Result<()> {
    for number in 0..FILES {
        let name = match number {
            0 => "configuration.nix".to_owned(),
            _ => number.to_string(),
        };
        let path = fleet.path().join("shared").join(name);
        fs::write(path, format!("{version} of {number}"))?;
    }
    fleet.give_away()
}

/// The version of some files, which must all have the same.
fn version<'a>(mut texts: impl Iterator<Item = &'a [u8]>) -> Result<usize> {
    let versions: Option<BTreeSet<usize>> = texts.try_fold(BTreeSet::new(), |mut seen, text| {
        let version = str::from_utf8(text).ok()?.split(' ').next()?;
        seen.insert(version.parse().ok()?);
        Some(seen)
    });
    let versions = versions.context("it isn't what was written")?;
    ensure!(versions.len() == 1, "the versions {versions:?} are mixed");
    versions.first().copied().context("there are no files")
}

fn version_of(generation: &Generation) -> Result<usize> {
    let small = |path: &&String| !path.ends_with("large");
    let paths = generation.contents.keys().filter(small);
    version(paths.map(|path| generation.contents[path].as_slice()))
}

impl EnduranceEnv {
    fn new() -> Result<Self> {
        let mut fleet = Fleet::new()?;
        // So that each version stands for long enough to be downloaded.
        fleet.publish("debounce = \"2s\"")?;
        fleet.write("shared/large", noise(LARGE))?;
        write_version(&fleet, 0)?;
        for number in 0..MACHINES {
            fleet.host(&name(number), |host| {
                host.settings("source = \"shared\"");
                Ok(())
            })?;
        }
        Ok(EnduranceEnv {
            appliance: Appliance::start(fleet.path(), Options::default())?,
            fleet,
            done: AtomicBool::new(false),
            downloads: AtomicUsize::new(0),
        })
    }

    fn machine(&self, number: usize) -> Machine {
        Machine::of(&self.fleet, &name(number % MACHINES), &self.appliance)
    }

    /// Downloads for one machine after the other until it is done. Gives the versions that were seen.
    fn all_along(
        &self,
        first: usize,
        mut download: impl FnMut(&Machine, usize) -> Result<usize>,
    ) -> Result<BTreeSet<usize>> {
        let mut seen = BTreeSet::new();
        let mut number = first;
        while !self.done.load(Ordering::Relaxed) {
            let version = download(&self.machine(number), number % MACHINES);
            seen.insert(version.with_context(|| format!("a download of {}", name(number)))?);
            self.downloads.fetch_add(1, Ordering::Relaxed);
            number += 1;
        }
        Ok(seen)
    }

    /// The number of publications in the log.
    fn published(&self) -> Result<usize> {
        let log = self.appliance.logs()?;
        let published = log.lines().filter(|line| line.contains(" published "));
        Ok(published.count())
    }

    fn await_published(&self, count: usize) -> Result<()> {
        let all = || (self.published().ok()? >= count).then_some(());
        wait::until("every machine's publication", LIMIT, all)
    }

    /// Where the appliance keeps the publications of a machine.
    fn publications(&self, number: usize) -> Result<Vec<PathBuf>> {
        let hosts = self.appliance.state_folder()?.join("hosts");
        let folder = hosts.join(name(number)).join("publications");
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    }

    /// The bytes of all files that the appliance keeps, each counted once however many names it has.
    fn bytes(&self) -> Result<u64> {
        let mut files = BTreeMap::new();
        weigh(&self.appliance.state_folder()?.join("hosts"), &mut files)?;
        Ok(files.values().sum())
    }
}

fn weigh(folder: &Path, files: &mut BTreeMap<u64, u64>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            weigh(&entry.path(), files)?;
        } else {
            files.insert(metadata.ino(), metadata.len());
        }
    }
    Ok(())
}

/// As any client of SFTP does: the files in plain sight, one by one, and the manifest last, all in one session.
fn download_tree(machine: &Machine) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let to = folder.path().display();
    let manifest = chroot::MANIFEST;
    let batch = format!("get -R /config {to}/config\nget {manifest} {to}/manifest.json");
    machine.sftp(&batch)?.success()?;
    let manifest: Manifest =
        serde_json::from_slice(&fs::read(folder.path().join("manifest.json"))?)?;
    let mut contents = Vec::new();
    for file in manifest.files().iter().filter_map(|entry| entry.file()) {
        let content = fs::read(folder.path().join(file.path.as_str()))?;
        let is_right = Digest::of(&content) == file.sha256;
        ensure!(is_right, "{} isn't what the manifest says", file.path);
        if content.len() < LARGE {
            contents.push(content);
        }
    }
    ensure!(contents.len() == FILES, "{} files came", contents.len());
    version(contents.iter().map(Vec::as_slice))
}

/// As the client does: the bundle, or the delta from what was pulled before.
fn download_archive(machine: &Machine, before: &mut Option<Generation>) -> Result<usize> {
    let session = machine.log_in()?;
    let id: GenerationId = session.poll()?;
    let generation = match before.take() {
        Some(old) if old.id() == id => old,
        Some(old) => {
            let (_, new) = old.changed_by(&session.read(&chroot::delta(&old.id()))?)?;
            ensure!(new.id() == id, "the delta leads elsewhere");
            new
        }
        None => session.pull()?,
    };
    let version = version_of(&generation)?;
    *before = Some(generation);
    Ok(version)
}

#[test]
fn many_publications_under_constant_downloads() -> Result<()> {
    let edits = at_length(4, 10);
    let env = EnduranceEnv::new()?;
    let bytes_before = env.bytes()?;
    let staying = env.machine(0).log_in()?;
    let first = staying.pull()?;
    let stands_in = env.publications(0)?;
    thread::scope(|scope| {
        let trees = scope.spawn(|| env.all_along(0, |machine, _| download_tree(machine)));
        let bundles = scope.spawn(|| env.all_along(7, |machine, _| version_of(&machine.pull()?)));
        let deltas = scope.spawn(|| {
            let mut pulled: Vec<Option<Generation>> = vec![None; MACHINES];
            env.all_along(15, |machine, number| {
                download_archive(machine, &mut pulled[number])
            })
        });
        let edited = (1..=edits).try_for_each(|next| {
            let last = env.machine(MACHINES - 1);
            let before = last.pull()?.id();
            write_version(&env.fleet, next)?;
            last.await_other_than(before)?;
            // Machines are published one by one: the last one may have the edit before the others.
            env.await_published(MACHINES * (next + 1))?;
            ensure!(staying.pull()? == first, "the session's generation changed");
            Ok(())
        });
        // Clearing away goes on while they download.
        let left: usize = (1..MACHINES)
            .map(|number| env.publications(number).map_or(0, |left| left.len()))
            .sum();
        env.done.store(true, Ordering::Relaxed);
        for reader in [trees, bundles, deltas] {
            let seen = reader.join().unwrap()?;
            assert!(seen.len() > edits / 2, "only {seen:?} were seen");
        }
        edited?;
        assert!(left < MACHINES * 4, "{left} publications were left");
        anyhow::Ok(())
    })?;
    let published = env.published()?;
    let log = env.appliance.logs()?;
    assert_eq!(published, MACHINES * (edits + 1), "{log}");

    assert_eq!(staying.pull()?, first);
    assert!(stands_in[0].is_dir());
    drop(staying);
    wait::until("everything old to be gone", LIMIT, || {
        // It scans when something happens in the fleet folder, and each 30 s.
        env.fleet.write("shared/file~", "").ok()?;
        let left = |number| env.publications(number).is_ok_and(|left| left.len() == 1);
        (0..MACHINES).all(left).then_some(())
    })?;
    assert!(!stands_in[0].exists());
    let bytes = env.bytes()?;
    let downloads = env.downloads.load(Ordering::Relaxed);
    println!(
        "{} publications after the first, {downloads} downloads, {bytes_before} bytes before, {bytes} after",
        published - MACHINES
    );
    // Deltas and older manifests are there now, and less than what one publication left over would take.
    assert!(
        bytes - bytes_before < LARGE as u64,
        "{bytes_before}, {bytes}"
    );
    Ok(())
}
