//! Snapshots: the readable part of a generation that is, or was, published.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use bento_protocol::{Area, FilePath, GenerationId, Manifest};
use rustix::fs::{Mode, OFlags, openat};

use super::{Folder, Publications, history, numbered};
use crate::publication::published::Published;
use crate::store::atomic_file;

/// A generation of a machine, published now or earlier.
#[derive(Debug)]
pub struct Snapshot {
    /// Its manifest.
    pub manifest: Manifest,
    /// The folder of its `config/`, held open because the appliance may move it meanwhile; none if only the manifest is
    /// left.
    folder: Option<OwnedFd>,
}

impl Snapshot {
    /// Opens one of its files. None for a secret, which is never kept, and for a removed file.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(&self, path: &FilePath) -> io::Result<Option<File>> {
        let Some(folder) = self.folder.as_ref().filter(|_| path.area() == Area::Config) else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(folder, path.as_str(), flags, Mode::empty()).map_err(io::Error::from) {
            Ok(file) => Ok(Some(file.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Publications<'_> {
    /// The snapshot of a generation; none if nothing is left of it.
    ///
    /// # Errors
    /// When the folders can't be listed.
    pub fn snapshot(&self, generation: GenerationId) -> io::Result<Option<Snapshot>> {
        // In this order: a publication may move from the first folder to the second meanwhile.
        let mut numbers: BTreeSet<u64> = self.numbers()?.into_iter().collect();
        numbers.extend(history::folders(self.host)?.into_keys());
        let manifest = |number: u64| -> Option<Manifest> {
            let path = self.host.manifests().join(format!("{number}.json"));
            let manifest: Manifest = atomic_file::read_json(&path).ok()??;
            (manifest.generation() == generation).then_some(manifest)
        };
        for number in numbers.into_iter().rev() {
            let places = [self.folder(number), history::folder(self.host, number)];
            let folder = places
                .iter()
                .find(|folder| is_of(folder, generation))
                .and_then(|_| places.iter().find_map(|folder| open(&folder.chroot())));
            if let Some((folder, manifest)) = folder.zip(manifest(number)) {
                let folder = Some(folder);
                return Ok(Some(Snapshot { manifest, folder }));
            }
        }
        let manifests = numbered(&self.host.manifests(), ".json")?;
        let manifest = manifests.into_keys().rev().find_map(manifest);
        Ok(manifest.map(|manifest| Snapshot {
            manifest,
            folder: None,
        }))
    }
}

fn is_of(folder: &Folder, generation: GenerationId) -> bool {
    let published = atomic_file::read_json::<Published>(&folder.record());
    matches!(published, Ok(Some(published)) if published.generation == generation)
}

fn open(folder: &Path) -> Option<OwnedFd> {
    File::open(folder).map(OwnedFd::from).ok()
}
