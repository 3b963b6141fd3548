use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use bento_protocol::limits;
use rustix::fs::{FlockOperation, OFlags, flock};
use tempfile::TempDir;

use super::entry::is_own;
use crate::publication::Publications;
use crate::store::change_lock;
use crate::store::paths::{HostState, Runtime, State};

/// The prefix of a snapshot's folder.
const PREFIX: &str = "backup.";
/// The extensions of unfinished files and publications.
const UNFINISHED: [&str; 2] = ["new", "partial"];

/// A snapshot of a state in its own folder; removed on drop.
#[derive(Debug)]
pub struct StateSnapshot {
    folder: TempDir,
    /// Marks the folder as in use.
    _lock: File,
}

impl StateSnapshot {
    /// Takes a snapshot: of the local appliance, while its writers wait, or of an unused state.
    ///
    /// # Errors
    /// When another appliance uses the state, or a file can't be read or written.
    pub fn take(state: &State, runtime: &Runtime) -> Result<Self> {
        let lock = File::options().read(true).write(true).open(state.lock());
        let lock = lock.with_context(|| {
            format!(
                "there is no state in {}: run this in the container, as in `podman exec bento bento backup`",
                state.root().display()
            )
        })?;
        let nobody_runs = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let alone = match nobody_runs {
            true => None,
            false => Some(change_lock::alone(runtime).with_context(|| {
                format!(
                    "an appliance in another container uses {}: run this in its container, as in `podman exec bento \
                     bento backup`",
                    state.root().display()
                )
            })?),
        };
        clear_leftovers(state)?;
        let snapshot = Self::new(state)?;
        let copy = || -> io::Result<()> {
            for entry in fs::read_dir(state.root())? {
                let name = entry?.file_name();
                let is_part = name.to_str().is_some_and(|name| !is_own(name));
                if is_part && !is_unfinished(name.as_ref()) && name != "hosts" {
                    add(&state.root().join(&name), &snapshot.root().join(&name))?;
                }
            }
            add_hosts(state, snapshot.root())
        };
        copy().with_context(|| format!("can't copy {}", state.root().display()))?;
        drop((alone, lock));
        Ok(snapshot)
    }

    fn new(state: &State) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(state.root())
            .with_context(|| format!("can't write {}", state.root().display()))?;
        let lock = File::open(folder.path())?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(StateSnapshot {
            folder,
            _lock: lock,
        })
    }

    /// The folder of the snapshot.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes snapshots of processes that died. No other process may take a snapshot at the same time.
///
/// # Errors
/// When one can't be removed.
pub fn clear_leftovers(state: &State) -> io::Result<()> {
    for entry in fs::read_dir(state.root())? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if !name.starts_with(PREFIX) || !path.is_dir() {
            continue;
        }
        let folder = File::open(&path)?;
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn add_hosts(state: &State, to: &Path) -> io::Result<()> {
    let hosts = to.join("hosts");
    create_folder(&hosts)?;
    for entry in fs::read_dir(state.hosts())? {
        let name = entry?.file_name();
        // Only entries of machines belong to the appliance.
        if let Some(name) = name.to_str().and_then(|name| name.parse().ok()) {
            add_host(&state.host(&name), &State::new(to).host(&name))?;
        }
    }
    Ok(())
}

/// Adds a machine, with only its current publication: no session outlives the appliance.
fn add_host(from: &HostState, to: &HostState) -> io::Result<()> {
    create_folder(to.root())?;
    let elsewhere = [from.publications(), from.kept()];
    for entry in fs::read_dir(from.root())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if !elsewhere.contains(&path) && !is_unfinished(&path) {
            add(&path, &to.root().join(name))?;
        }
    }
    let publications = Publications::of(from);
    let Some(current) = publications.current()? else {
        return Ok(());
    };
    create_folder(&to.publications())?;
    let number = current.to_string();
    add(
        &from.publications().join(&number),
        &to.publications().join(&number),
    )?;
    // Reports in inboxes of earlier publications count as delivered, too.
    let inbox = Publications::of(to).inbox(current);
    fs::remove_dir_all(&inbox)?;
    create_folder(&inbox)?;
    for number in publications.numbers()? {
        add_reports(&publications.inbox(number), &inbox)?;
    }
    Ok(())
}

/// Copies the reports in an inbox; a session may still write to them, so hard links aren't enough.
fn add_reports(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if !fs::symlink_metadata(&path)?.is_file() {
            continue;
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let report = File::options().read(true).custom_flags(flags).open(&path)?;
        let name = path.file_name().unwrap_or_default();
        let mut copy = File::create(to.join(name))?;
        io::copy(&mut report.take(limits::REPORT_BYTES), &mut copy)?;
    }
    Ok(())
}

fn add(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(from)?;
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if !found.is_dir() {
        // A copy if the filesystem has no hard links, or the file has too many.
        return fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop));
    }
    create_folder(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if !is_unfinished(&path) {
            add(&path, &to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn is_unfinished(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| UNFINISHED.contains(&extension))
}
