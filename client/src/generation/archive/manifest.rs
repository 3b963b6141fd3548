//! The first entry of an archive: what its files must be. It may be too long for the memory, so its lists go to the
//! disk as they come.

use std::io::{BufReader, Read};
use std::rc::Rc;

use anyhow::{Context, ensure};
use bento_protocol::stream::{self, Head};
use bento_protocol::{
    DeltaError, FilePath, GenerationHasher, ManifestEntry, ManifestError, chroot, limits, merge,
};
use serde_json::de::IoRead;
use tar::EntryType;

use super::ArchiveError::{self, Disk, Invalid};
use super::{Entries, Entry, Wanted};
use crate::generation::list;
use crate::generation::partial::Partial;

type Json<'a, R> = serde_json::Deserializer<IoRead<BufReader<Entry<'a, R>>>>;

impl<'a, R: Read> Entries<'a, R> {
    /// Reads the manifest of the wanted generation, or the delta to it. The listed files are in `partial` then, and not
    /// yet known to be the generation's.
    pub(super) fn head(
        &mut self,
        wanted: &Wanted<'_>,
        partial: &Partial,
    ) -> Result<Head, ArchiveError> {
        let mut carried = list::Writer::create(partial.carried()).map_err(Disk)?;
        let mut removed = list::Writer::create(partial.removed()).map_err(Disk)?;
        let allowance = Rc::clone(&self.allowance);
        let take_file = &mut |file: ManifestEntry| {
            allowance.set(limits::HEAD_BYTES);
            to_text(carried.add(file.path(), &file))
        };
        let take_path = &mut |path: FilePath| {
            allowance.set(limits::HEAD_BYTES);
            to_text(removed.add(&path, &path))
        };
        let head = match wanted.base {
            None => self.document(chroot::MANIFEST_ENTRY, |json| {
                stream::read_manifest(json, take_file)
            }),
            Some(base) => self
                .document(chroot::DELTA_ENTRY, |json| {
                    stream::read_delta(json, take_file, take_path)
                })
                .and_then(|delta| {
                    let is_from_here =
                        (&delta.head.host, delta.from) == (&base.head().host, base.id());
                    let (host, from) = (delta.head.host.clone(), delta.from);
                    ensure!(is_from_here, DeltaError::Base { host, from });
                    Ok(delta.head)
                }),
        };
        let head = head.and_then(|head| check(head, wanted)).map_err(Invalid)?;
        carried.finish().map_err(Disk)?;
        removed.finish().map_err(Disk)?;
        Ok(head)
    }

    fn document<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Json<'a, R>) -> serde_json::Result<T>,
    ) -> anyhow::Result<T> {
        let entry = self.next(name, EntryType::Regular)?;
        let size = entry.size();
        ensure!(
            size <= limits::MANIFEST_BYTES,
            "its {name} has {size} bytes, more than the {} that are allowed",
            limits::MANIFEST_BYTES
        );
        // Again with each file that was understood, so that nothing else in it can be long.
        self.allowance.set(limits::HEAD_BYTES);
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(entry));
        read(&mut json)
            .and_then(|document| json.end().map(|()| document))
            .with_context(|| format!("its {name} isn't understood"))
    }
}

/// The errors of JSON carry nothing but text.
fn to_text(result: Result<(), ManifestError>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

fn check(head: Head, wanted: &Wanted<'_>) -> anyhow::Result<Head> {
    ensure!(
        head.host == *wanted.host,
        "it is for the machine {}, and this one is {}",
        head.host,
        wanted.host
    );
    ensure!(
        head.generation == wanted.generation,
        "it holds generation {}, but {} was polled",
        head.generation,
        wanted.generation
    );
    Ok(head)
}

/// Writes the list of all files: those of the base, if there is one, with the changes. It is that of the generation
/// wanted when this succeeds.
pub(super) fn assemble(
    head: &Head,
    wanted: &Wanted<'_>,
    partial: &Partial,
) -> Result<(), ArchiveError> {
    let base = wanted.base.map(|base| base.files()).transpose();
    let base = base.map_err(Disk)?.into_iter().flatten();
    let removed = list::read(&partial.removed()).map_err(Disk)?;
    let carried = list::read(&partial.carried()).map_err(Disk)?;
    let mut files = list::Writer::create(partial.files()).map_err(Disk)?;
    let mut hasher = GenerationHasher::new(&head.host, &head.policy);
    merge(
        base.map(|file| file.map_err(Disk)),
        removed.map(|path| path.map_err(Disk)),
        carried.map(|file| file.map_err(Disk)),
        &mut |file: ManifestEntry| {
            hasher.add(&file).map_err(DeltaError::from)?;
            files.add(file.path(), &file).map_err(DeltaError::from)?;
            Ok(())
        },
    )?;
    files.finish().map_err(Disk)?;
    let (named, computed) = (head.generation, hasher.id());
    if computed != named {
        return Err(Invalid(ManifestError::Id { named, computed }.into()));
    }
    Ok(())
}
