use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use bento_protocol::Digest;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use tar::{Archive, Entry, EntryType};

use super::digest::{ArchiveDigest, ArchiveEnd};
use super::entry::{EntryKind, EntryPath, is_own};
use super::writer::{ArchiveHead, Hashing};
use super::{END, HEAD, install};
use crate::problem;
use crate::publication::Publications;
use crate::store::accounts::Accounts;
use crate::store::machines::read_fleet;
use crate::store::paths::{Runtime, State};
use crate::store::permissions;
use crate::store::permissions::{Depth, Rule};

/// The most bytes of the first and last entry that are read.
const DOCUMENT: u64 = 4096;

/// The result of a restore.
#[derive(Debug)]
pub struct Restored {
    /// The number of its machines.
    pub machines: usize,
}

/// Restores an archive to a state, completely or not at all: until the archive is unpacked and checked, the state is
/// unchanged.
///
/// # Errors
/// When an appliance uses the state, the state isn't empty and `replace` is false, or the archive isn't a complete
/// backup.
pub fn restore(state: &State, input: &mut dyn Read, replace: bool) -> Result<Restored> {
    let root = state.root();
    // A new folder wouldn't be the appliance's volume.
    ensure!(
        root.is_dir(),
        "there is no folder {}: run this in the container, with the volume mounted",
        root.display()
    );
    let _lock = lock(state)?;
    install::finish(state).with_context(|| format!("can't write {}", root.display()))?;
    if !replace && let Some(name) = first_entry(root)? {
        bail!(
            "{} isn't empty, it contains {name}: use --replace to remove its contents, including the host key and all reports",
            root.display()
        );
    }
    let partial = install::partial(state);
    let unpacked = unpack(&partial, input).and_then(|()| finish(&State::new(&partial)));
    let restored = unpacked.inspect_err(|_| {
        // A leftover is removed at the next restore or start.
        let _ = fs::remove_dir_all(&partial);
    })?;
    install::install(state).with_context(|| format!("can't write {}", root.display()))?;
    Ok(restored)
}

fn lock(state: &State) -> Result<File> {
    let lock = File::create(state.lock())
        .with_context(|| format!("can't write {}", state.root().display()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(_) => bail!(
            "an appliance uses {}: stop it first, and restore with `podman run --rm -i \
             --volume=bento-state:/state localhost/bento restore`",
            state.root().display()
        ),
    }
}

fn first_entry(root: &Path) -> io::Result<Option<String>> {
    let mut first = None;
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !is_own(&name) && first.as_ref().is_none_or(|first| name < *first) {
            first = Some(name);
        }
    }
    Ok(first)
}

/// Unpacks an archive to a new folder.
fn unpack(folder: &Path, input: &mut dyn Read) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("can't create {}", folder.display()))?;
    let mut archive = Archive::new(input);
    let mut entries = archive.entries().context(NO_BACKUP)?;
    let mut first = entries.next().context(NO_BACKUP)?.context(NO_BACKUP)?;
    ensure!(
        first.path().is_ok_and(|path| path == Path::new(HEAD)),
        NO_BACKUP
    );
    let _head: ArchiveHead =
        document(&mut first).context("it was written by an unknown version of bento")?;
    let mut unpacker = Unpacker {
        folder,
        folders: HashSet::from([PathBuf::new()]),
    };
    let mut digest = ArchiveDigest::default();
    while let Some(entry) = entries.next() {
        let mut entry = entry.context(NOT_WHOLE)?;
        let path = entry
            .path()
            .context("can't read a path in it")?
            .into_owned();
        if path == Path::new(END) {
            let end: ArchiveEnd = document(&mut entry)?;
            ensure!(
                end == digest.end(),
                "it is damaged: its digest doesn't match"
            );
            return match entries.next() {
                None => Ok(()),
                Some(Ok(_)) => bail!("it has more entries after its end"),
                Some(Err(error)) => Err(error).context(NOT_WHOLE),
            };
        }
        let path = EntryPath::new(&path)?;
        unpacker
            .unpack(&mut entry, &path, &mut digest)
            .with_context(|| format!("can't restore {} from it", path.as_path().display()))?;
    }
    bail!(NOT_WHOLE)
}

const NO_BACKUP: &str = "this isn't an archive of `bento backup`";
const NOT_WHOLE: &str = "the archive is incomplete";

fn document<T: DeserializeOwned>(entry: &mut Entry<'_, impl Read>) -> Result<T> {
    let (size, mut json) = (entry.size(), Vec::new());
    entry
        .take(DOCUMENT)
        .read_to_end(&mut json)
        .context(NOT_WHOLE)?;
    ensure!(json.len() as u64 == size, NOT_WHOLE);
    Ok(serde_json::from_slice(&json)?)
}

/// Creates files, folders and symlinks, each once, and only in folders that it created itself.
struct Unpacker<'a> {
    folder: &'a Path,
    folders: HashSet<PathBuf>,
}

impl Unpacker<'_> {
    fn unpack(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        path: &EntryPath,
        digest: &mut ArchiveDigest,
    ) -> Result<()> {
        let relative = path.as_path();
        let parent = relative.parent().unwrap_or(Path::new(""));
        ensure!(
            self.folders.contains(parent),
            "its folder isn't in the archive before it"
        );
        let to = self.folder.join(relative);
        let header = entry.header();
        match header.entry_type() {
            EntryType::Directory => {
                DirBuilder::new().mode(0o700).create(&to)?;
                self.folders.insert(relative.to_owned());
                digest.add(path, &EntryKind::Folder, None);
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.context("it has no target")?.into_owned();
                path.require_link(&target)?;
                symlink(&target, &to)?;
                digest.add(path, &EntryKind::Link(target), None);
            }
            EntryType::Regular => {
                let (size, modified) = (header.size()?, header.mtime()?);
                let (bytes, content) = write_file(entry, &to, modified)?;
                ensure!(bytes == size, NOT_WHOLE);
                digest.add(path, &EntryKind::File(size), Some(content));
            }
            _ => bail!("it is neither a file, nor a folder, nor a symlink"),
        }
        Ok(())
    }
}

/// Writes a file; returns its size and its digest.
fn write_file(from: &mut impl Read, to: &Path, modified: u64) -> Result<(u64, Digest)> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let mut content = Hashing::of(from);
    io::copy(&mut content, &mut file)?;
    let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(modified));
    file.set_modified(modified.context("its time is out of range")?)?;
    Ok((content.bytes, content.digest()))
}

/// Checks that an appliance can start with the state, and sets owners and modes.
fn finish(unpacked: &State) -> Result<Restored> {
    let (_, accounts) = read_fleet(unpacked)?;
    for needed in [unpacked.host_key(), unpacked.accounts()] {
        let name = needed.strip_prefix(unpacked.root()).unwrap_or(&needed);
        ensure!(needed.is_file(), "it has no {}", name.display());
    }
    for entry in fs::read_dir(unpacked.hosts()).context("it has no machines")? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.parse().ok());
        let host =
            unpacked.host(&name.context("its folder hosts has an entry that isn't a machine")?);
        if Publications::of(&host).current()?.is_some() {
            let current = fs::metadata(host.current());
            ensure!(
                current.is_ok_and(|current| current.is_dir()),
                "{} has no target",
                host.current().display()
            );
        }
    }
    set_owners(unpacked, &accounts)?;
    rustix::fs::syncfs(File::open(unpacked.root())?)?;
    Ok(Restored {
        machines: accounts.names().count(),
    })
}

fn set_owners(unpacked: &State, accounts: &Accounts) -> Result<()> {
    // There is no runtime folder yet.
    let nowhere = Runtime::new(unpacked.root().join("run/bento"));
    let mut problems = Vec::new();
    for (name, uid) in accounts.all() {
        let of_host =
            permissions::of_host(unpacked, &nowhere, name, uid, Depth::Everything, Rule::mend);
        problems.extend(of_host.problems);
    }
    ensure!(
        problems.is_empty(),
        "can't set the owners of its files: {}",
        problem::lines(&problems).join("; ")
    );
    Ok(())
}
