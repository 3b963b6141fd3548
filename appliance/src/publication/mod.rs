//! Publications: a generation becomes the chroot of its machine. It is staged aside, and switched to in one step.

mod archive;
mod chroot;
mod history;
mod plain;
pub mod published;
mod snapshot;

pub use chroot::{EXECUTABLE, FILE, FOLDER, INBOX};
pub use history::make_room;
pub use plain::executables as plain_executables;
pub use snapshot::Snapshot;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bento_protocol::{GenerationId, Manifest, SystemPath};
use jiff::Timestamp;
use tracing::warn;

use crate::generation::ReadError;
use crate::publication::published::Published;
use crate::scan::{FleetFolder, HostTree};
use crate::store::atomic_file;
use crate::store::paths::HostState;

/// The number of earlier generations with a delta to the published one. A machine that was away longer pulls the bundle.
const DELTAS: usize = 5;

/// The publications of one machine: folders named by a number that only grows.
#[derive(Debug)]
pub struct Publications<'a> {
    host: &'a HostState,
}

/// A publication that is complete, and not yet visible.
#[derive(Debug)]
#[must_use = "a staged publication isn't published before the switch"]
pub struct StagedPublication {
    number: u64,
    partial: PathBuf,
    manifest: Manifest,
}

impl StagedPublication {
    /// Its generation.
    pub fn generation(&self) -> GenerationId {
        self.manifest.generation()
    }
}

/// The parts of a publication's folder.
struct Folder(PathBuf);

impl Folder {
    /// The chroot of the machine.
    fn chroot(&self) -> PathBuf {
        self.0.join("chroot")
    }

    /// The record of the appliance, which the machine can't see.
    fn record(&self) -> PathBuf {
        self.0.join("published.json")
    }
}

impl<'a> Publications<'a> {
    /// The publications of a machine.
    pub fn of(host: &'a HostState) -> Self {
        Publications { host }
    }

    /// The record of the current publication; none if there is none.
    pub fn published(&self) -> io::Result<Option<Published>> {
        Published::read(self.host)
    }

    /// The manifest of the current publication.
    pub fn manifest(&self) -> io::Result<Option<Manifest>> {
        match self.current()? {
            Some(number) => {
                atomic_file::read_json(&chroot::manifest(&self.folder(number).chroot()))
            }
            None => Ok(None),
        }
    }

    /// Records the system that is expected from the published generation; none if it isn't known.
    pub fn set_expected_system(&self, system: Option<SystemPath>) -> io::Result<()> {
        let (Some(number), Some(published)) = (self.current()?, self.published()?) else {
            return Ok(());
        };
        let published = Published {
            expected_system: system,
            ..published
        };
        atomic_file::write_json(&self.folder(number).record(), &published)
    }

    /// Creates an empty chroot for a machine without a publication, so that its client can report that, instead of a failed
    /// login.
    pub fn create_empty(&self, gid: u32) -> io::Result<()> {
        if self.current()?.is_some() {
            return Ok(());
        }
        let number = self.next_number()?;
        let partial = self.partial(number)?;
        chroot::create_empty(&Folder(partial.clone()).chroot(), gid)?;
        self.switch_to(number, &partial)
    }

    /// Writes a publication aside, where no machine sees it, with the system that is expected from it, where known. The
    /// caller must make the filesystem durable before it switches.
    pub fn stage(
        &self,
        manifest: &Manifest,
        expected_system: Option<SystemPath>,
        tree: &HostTree,
        fleet: &FleetFolder,
        gid: u32,
    ) -> Result<StagedPublication, ReadError> {
        // A damaged old publication doesn't stop the new one: that is written in full then.
        let before = self.manifest().unwrap_or_else(|error| {
            warn!(host = %manifest.host(), "the manifest of the current publication can't be read: {error}");
            None
        });
        let previous = match (&before, self.current().map_err(ReadError::Output)?) {
            (Some(manifest), Some(number)) => Some((manifest, self.folder(number).chroot())),
            _ => None,
        };
        let number = self.next_number().map_err(ReadError::Output)?;
        let partial = self.partial(number).map_err(ReadError::Output)?;
        let folder = Folder(partial.clone());
        let aside = partial.join("secrets");
        let writer = chroot::Writer {
            chroot: &folder.chroot(),
            aside: &aside,
            gid,
            manifest,
        };
        writer.files(
            tree,
            fleet,
            previous
                .as_ref()
                .map(|(manifest, chroot)| (*manifest, chroot.as_path())),
        )?;
        let last_change = self.last_change_after(manifest.published());
        let finish = || {
            writer.archives(&self.history()?)?;
            writer.poll_files(last_change)?;
            fs::remove_dir_all(&aside)?;
            let published = Published {
                expected_system,
                ..Published::new(manifest.generation(), manifest.published())
            };
            fs::write(folder.record(), serde_json::to_vec(&published)?)
        };
        finish().map_err(ReadError::Output)?;
        Ok(StagedPublication {
            number,
            partial,
            manifest: manifest.clone(),
        })
    }

    /// Publishes: from now on new sessions see the new generation.
    pub fn switch(&self, staged: StagedPublication) -> io::Result<()> {
        let manifests = self.host.manifests();
        atomic_file::write_json(
            &manifests.join(format!("{}.json", staged.number)),
            &staged.manifest,
        )?;
        self.switch_to(staged.number, &staged.partial)?;
        // It is published in any case; the next switch tries again.
        if let Err(error) = self.prune_manifests() {
            let host = staged.manifest.host();
            warn!(%host, "old manifests can't be removed: {error}");
        }
        Ok(())
    }

    /// The number of the current publication.
    pub fn current(&self) -> io::Result<Option<u64>> {
        match fs::read_link(self.host.current()) {
            Ok(target) => Ok(target.parent().and_then(number_of)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The numbers of all publications that still have a folder, the current one included.
    pub fn numbers(&self) -> io::Result<Vec<u64>> {
        Ok(numbered(&self.host.publications(), "")?
            .into_keys()
            .collect())
    }

    /// The chroot of sessions that began while this publication was current.
    pub fn chroot(&self, number: u64) -> PathBuf {
        self.folder(number).chroot()
    }

    /// The inbox of sessions that began while this publication was current.
    pub fn inbox(&self, number: u64) -> PathBuf {
        chroot::inbox(&self.folder(number).chroot())
    }

    /// Removes the leftovers of a crash.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        self.remove_unfinished()?;
        let folders = [
            self.host.root(),
            &self.host.manifests(),
            &self.host.reports(),
        ];
        folders
            .into_iter()
            .try_for_each(atomic_file::remove_asides)?;
        let publications = numbered(&self.host.publications(), "")?;
        let mut publications = publications.values();
        publications.try_for_each(|folder| atomic_file::remove_asides(folder))
    }

    /// Removes staged publications, and those that were never switched to, with their manifests. No session was ever in one
    /// of them, and their numbers are used again.
    pub fn remove_unfinished(&self) -> io::Result<()> {
        self.remove_partials()?;
        let current = self.current()?.unwrap_or_default();
        let is_unused = |number: &u64| *number > current;
        let mut folders = numbered(&self.host.publications(), "")?;
        folders.retain(|number, _| is_unused(number));
        folders.values().try_for_each(fs::remove_dir_all)?;
        let mut manifests = numbered(&self.host.manifests(), ".json")?;
        manifests.retain(|number, _| is_unused(number));
        manifests.values().try_for_each(fs::remove_file)
    }

    fn remove_partials(&self) -> io::Result<()> {
        let partials = numbered(&self.host.publications(), PARTIAL)?;
        partials.values().try_for_each(fs::remove_dir_all)
    }

    fn switch_to(&self, number: u64, partial: &Path) -> io::Result<()> {
        let folder = self.folder(number);
        atomic_file::rename(partial, &folder.0)?;
        let current = self.host.current();
        let aside = atomic_file::aside(&current);
        atomic_file::remove(&aside)?;
        symlink(format!("publications/{number}/chroot"), &aside)?;
        atomic_file::rename(&aside, &current)
    }

    fn folder(&self, number: u64) -> Folder {
        Folder(self.host.publications().join(number.to_string()))
    }

    /// A new folder to stage a publication. There is one at a time; an earlier one is removed.
    fn partial(&self, number: u64) -> io::Result<PathBuf> {
        let partial = self.host.publications().join(format!("{number}{PARTIAL}"));
        fs::create_dir_all(self.host.publications())?;
        fs::create_dir_all(self.host.manifests())?;
        self.remove_partials()?;
        fs::create_dir(&partial)?;
        Ok(partial)
    }

    fn next_number(&self) -> io::Result<u64> {
        let published = numbered(&self.host.publications(), "")?
            .into_keys()
            .next_back();
        let recorded = numbered(&self.host.manifests(), ".json")?
            .into_keys()
            .next_back();
        Ok(published.max(recorded).map_or(1, |number| number + 1))
    }

    /// The manifests of the last few generations.
    fn history(&self) -> io::Result<Vec<Manifest>> {
        let newest = numbered(&self.host.manifests(), ".json")?
            .into_values()
            .rev()
            .take(DELTAS);
        // An unreadable manifest costs one delta.
        Ok(newest
            .filter_map(|path| atomic_file::read_json(&path).ok()?)
            .collect())
    }

    /// A bento 2022 client compares minutes, so two publications are at least 60 s apart for it.
    fn last_change_after(&self, now: Timestamp) -> std::time::SystemTime {
        let minute = std::time::Duration::from_secs(60);
        let before = self.current().ok().flatten().and_then(|number| {
            let file = chroot::last_change_date(&self.folder(number).chroot());
            fs::metadata(file)
                .and_then(|metadata| metadata.modified())
                .ok()
        });
        let now = std::time::SystemTime::from(now);
        before.map_or(now, |before| now.max(before + minute))
    }
}

const PARTIAL: &str = ".partial";

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}

/// The entries of a folder with a number and a suffix as their name, by number; empty if there is no such folder.
fn numbered(folder: &Path, suffix: &str) -> io::Result<BTreeMap<u64, PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_suffix(suffix)?.parse().ok());
        if let Some(number) = number {
            found.insert(number, entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
