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

/// How much of its own documents is read, in bytes.
const DOCUMENT: u64 = 4096;

/// What was taken from an archive.
#[derive(Debug)]
pub struct Restored {
    /// How many machines are enrolled in it.
    pub machines: usize,
}

/// Takes an archive into a state, wholly or not at all: until all of it is there and is right, the state stays as it is.
///
/// # Errors
/// When an appliance uses the state, it isn't empty and not to be `replaced`, or the archive isn't a whole backup.
pub fn restore(state: &State, input: &mut dyn Read, replace: bool) -> Result<Restored> {
    let root = state.root();
    // Made here, it would be somewhere that no appliance looks.
    ensure!(
        root.is_dir(),
        "there is no folder {}: run this in the container, with the volume in its place",
        root.display()
    );
    let _lock = lock(state)?;
    install::finish(state).with_context(|| format!("{} can't be written", root.display()))?;
    if !replace && let Some(name) = first_entry(root)? {
        bail!(
            "{} isn't empty, it holds {name}: with --replace everything in it goes, the host key and all reports included",
            root.display()
        );
    }
    let partial = install::partial(state);
    let unpacked = unpack(&partial, input).and_then(|()| finish(&State::new(&partial)));
    let restored = unpacked.inspect_err(|_| {
        // What is left over is removed at the next try, or at the next start.
        let _ = fs::remove_dir_all(&partial);
    })?;
    install::install(state).with_context(|| format!("{} can't be written", root.display()))?;
    Ok(restored)
}

fn lock(state: &State) -> Result<File> {
    let lock = File::create(state.lock())
        .with_context(|| format!("{} can't be written", state.root().display()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(_) => bail!(
            "{} is used by an appliance: stop it first, and restore with `podman run --rm -i \
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

/// Unpacks an archive into a folder that isn't there yet.
fn unpack(folder: &Path, input: &mut dyn Read) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("{} can't be made", folder.display()))?;
    let mut archive = Archive::new(input);
    let mut entries = archive.entries().context(NO_BACKUP)?;
    let mut first = entries.next().context(NO_BACKUP)?.context(NO_BACKUP)?;
    ensure!(
        first.path().is_ok_and(|path| path == Path::new(HEAD)),
        NO_BACKUP
    );
    let _head: ArchiveHead = document(&mut first)
        .context("it was written by a version of bento that isn't known here")?;
    let mut unpacker = Unpacker {
        folder,
        folders: HashSet::from([PathBuf::new()]),
    };
    let mut digest = ArchiveDigest::default();
    while let Some(entry) = entries.next() {
        let mut entry = entry.context(NOT_WHOLE)?;
        let path = entry
            .path()
            .context("a path in it can't be read")?
            .into_owned();
        if path == Path::new(END) {
            let end: ArchiveEnd = document(&mut entry)?;
            ensure!(
                end == digest.end(),
                "it is damaged: its digest isn't what it was"
            );
            return match entries.next() {
                None => Ok(()),
                Some(Ok(_)) => bail!("it goes on after its end"),
                Some(Err(error)) => Err(error).context(NOT_WHOLE),
            };
        }
        let path = EntryPath::new(&path)?;
        unpacker
            .unpack(&mut entry, &path, &mut digest)
            .with_context(|| format!("{} can't be taken from it", path.as_path().display()))?;
    }
    bail!(NOT_WHOLE)
}

const NO_BACKUP: &str = "this is no archive that `bento backup` wrote";
const NOT_WHOLE: &str = "the archive isn't whole: it was cut off";

fn document<T: DeserializeOwned>(entry: &mut Entry<'_, impl Read>) -> Result<T> {
    let (size, mut json) = (entry.size(), Vec::new());
    entry
        .take(DOCUMENT)
        .read_to_end(&mut json)
        .context(NOT_WHOLE)?;
    ensure!(json.len() as u64 == size, NOT_WHOLE);
    Ok(serde_json::from_slice(&json)?)
}

/// Makes files, folders and symlinks below a folder, each once, and only in folders that it made itself.
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
                let target = entry.link_name()?.context("it leads nowhere")?.into_owned();
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

/// Writes a file's content; gives how many bytes it has, and their digest.
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

/// Looks whether it is a state with which an appliance can start, and gives everything its owner and mode.
fn finish(unpacked: &State) -> Result<Restored> {
    let (_, accounts) = read_fleet(unpacked)?;
    for needed in [unpacked.host_key(), unpacked.accounts()] {
        let name = needed.strip_prefix(unpacked.root()).unwrap_or(&needed);
        ensure!(needed.is_file(), "there is no {} in it", name.display());
    }
    for entry in fs::read_dir(unpacked.hosts()).context("there are no machines in it")? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.parse().ok());
        let host = unpacked.host(&name.context("what isn't a machine's lies in its hosts")?);
        if Publications::of(&host).current()?.is_some() {
            let current = fs::metadata(host.current());
            ensure!(
                current.is_ok_and(|current| current.is_dir()),
                "{} leads nowhere",
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
    // What lives as long as the container isn't there yet.
    let nowhere = Runtime::new(unpacked.root().join("run/bento"));
    let mut problems = Vec::new();
    for (name, uid) in accounts.all() {
        let of_host =
            permissions::of_host(unpacked, &nowhere, name, uid, Depth::Everything, Rule::mend);
        problems.extend(of_host.problems);
    }
    ensure!(
        problems.is_empty(),
        "it can't be given to the machines: {}",
        problem::lines(&problems).join("; ")
    );
    Ok(())
}
