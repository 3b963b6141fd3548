//! Paths in `/var/lib/bento`.

pub(crate) mod atomic_file;
pub(crate) mod contact;
pub(crate) mod hold;
pub(crate) mod record;
pub(crate) mod spool;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bento_protocol::GenerationId;

/// Default state folder of the client.
pub const STATE_FOLDER: &str = "/var/lib/bento";

/// The paths of the client's state.
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
}

/// The right to change the state: one run at a time has it.
#[derive(Debug)]
pub struct Lock {
    /// The lock goes when this closes, also when the run is killed.
    _file: File,
}

/// The right to go back to the old system: one process at a time has it.
#[derive(Debug)]
pub struct RollbackLock {
    _file: File,
}

/// Failure to get the lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run has it.
    #[error("another run{0} holds the lock {1}: wait until it has ended")]
    Held(String, PathBuf),
    /// The lock's file can't be used.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// The path without links, as far as there is something.
fn resolved(path: &Path) -> PathBuf {
    let last = |path: &Path| {
        Some((
            path.parent()?.canonicalize().ok()?,
            path.file_name()?.to_owned(),
        ))
    };
    match path.canonicalize() {
        Ok(path) => path,
        Err(_) => last(path).map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name)),
    }
}

impl State {
    /// The state in a folder, or where a link leads that is in its place: Nix takes no flake through one. It must be
    /// absolute and plain, because its path stands in a flake reference and in a
    /// systemd property, where other characters have a meaning.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
        let folder = resolved(folder);
        match folder.to_str() {
            Some(text) if folder.is_absolute() && text.bytes().all(plain) => Ok(State { folder }),
            _ => bail!(
                "the state folder {:?} isn't an absolute path of letters, digits and . _ - + only",
                folder.display().to_string()
            ),
        }
    }

    /// Makes the folders that are missing.
    pub fn prepare(&self) -> anyhow::Result<()> {
        // An existing folder keeps its permissions: the administrator may want others to read it.
        for folder in [self.folder.clone(), self.secrets_folder()] {
            make_folder(&folder, 0o700)?;
        }
        make_folder(&self.generations_folder(), 0o755)?;
        make_folder(&self.armed_folder(), 0o700)?;
        make_folder(&self.spool(), 0o700)
    }

    /// Takes the lock, or says who has it.
    pub fn lock(&self) -> Result<Lock, LockError> {
        let path = self.lock_file();
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
        };
        let mut file = open().with_context(|| format!("can't open the lock {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without a number the message still says what to do.
                let _ = file.read_to_string(&mut holder);
                let number: Option<u32> = holder.trim().parse().ok();
                let who = number.map_or(String::new(), |number| format!(" (process {number})"));
                return Err(LockError::Held(who, path));
            }
            Err(TryLockError::Error(error)) => {
                return Err(anyhow::Error::new(error)
                    .context(format!("can't lock {}", path.display()))
                    .into());
            }
        }
        let mut write = || {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        write().with_context(|| format!("can't write to the lock {}", path.display()))?;
        Ok(Lock { _file: file })
    }

    /// Waits for the right to go back to the old system. It is apart from the lock of runs: a run that hangs while it
    /// holds that one mustn't keep the machine from going back.
    pub fn lock_rollback(&self) -> anyhow::Result<RollbackLock> {
        let path = self.folder.join("rollback.lock");
        let lock = || {
            let file = File::create(&path)?;
            file.lock()?;
            Ok::<_, std::io::Error>(RollbackLock { _file: file })
        };
        lock().with_context(|| format!("can't lock {}", path.display()))
    }

    /// The process that has the lock, if one has.
    pub fn holder(&self) -> Option<u32> {
        // To try the lock would take it for a moment, and turn away a run that begins just then. A line of proc_locks(5)
        // is "1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF".
        let inode = fs::metadata(self.lock_file()).ok()?.ino().to_string();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let file = fields.get(5)?.rsplit(':').next();
            (fields.get(1) == Some(&"FLOCK") && file == Some(inode.as_str()))
                .then(|| fields.get(4)?.parse().ok())?
        })
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Record of the installed generation.
    pub fn installed(&self) -> PathBuf {
        self.folder.join("installed.json")
    }

    /// Record of the last delivered report.
    pub fn delivered(&self) -> PathBuf {
        self.folder.join("delivered.json")
    }

    /// Record that no server can be polled.
    pub fn no_contact(&self) -> PathBuf {
        self.folder.join("no-contact.json")
    }

    /// Record of a pause of updates by the machine's owner.
    pub fn hold(&self) -> PathBuf {
        self.folder.join("hold.json")
    }

    /// Reports that wait for delivery.
    pub fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// The folder of staged generations.
    pub fn generations_folder(&self) -> PathBuf {
        self.folder.join("generations")
    }

    /// A staged generation: `head.json`, `files` and `config/`.
    pub fn generation(&self, id: &GenerationId) -> PathBuf {
        self.generations_folder().join(id.to_string())
    }

    /// The folder of the secrets of staged generations.
    pub fn secrets_folder(&self) -> PathBuf {
        self.folder.join("secrets.d")
    }

    /// The secrets of a staged generation.
    pub fn secrets_of(&self, id: &GenerationId) -> PathBuf {
        self.secrets_folder().join(id.to_string())
    }

    /// Path by which services find their secrets: a link to those of the generation that is to run.
    pub fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    /// Parts of archives whose transfer was cut.
    pub fn received(&self) -> PathBuf {
        self.folder.join("received")
    }

    /// A copy of the installed generation's `config/`, in which its inputs are moved on.
    pub fn working_copy(&self) -> PathBuf {
        self.folder.join("working")
    }

    /// The result of the last build: a link into the store, which keeps Nix from collecting it as garbage.
    pub fn result(&self) -> PathBuf {
        self.folder.join("result")
    }

    /// Journal of a run.
    pub fn journal(&self) -> PathBuf {
        self.folder.join("transaction.json")
    }

    /// Record of a system that awaits a boot.
    pub fn awaiting(&self) -> PathBuf {
        self.folder.join("awaiting.json")
    }

    /// Record of the last system that worked with its own kernel.
    pub fn fallback(&self) -> PathBuf {
        self.folder.join("fallback.json")
    }

    /// Link that protects that system from Nix' garbage collection.
    pub fn fallback_root(&self) -> PathBuf {
        self.folder.join("fallback")
    }

    /// Record of the last failure.
    pub fn failed(&self) -> PathBuf {
        self.folder.join("failed.json")
    }

    /// The last runs.
    pub fn history(&self) -> PathBuf {
        self.folder.join("history.json")
    }

    /// Record of the last reboot that was asked for.
    pub fn rebooted(&self) -> PathBuf {
        self.folder.join("rebooted.json")
    }

    /// Time of the last self-update.
    pub fn self_updated(&self) -> PathBuf {
        self.folder.join("self-updated.json")
    }

    /// Armed runs, and the decisions about them.
    pub fn armed_folder(&self) -> PathBuf {
        self.folder.join("armed")
    }

    /// A link to the system to go back to, which keeps Nix from collecting it as garbage while it is needed.
    pub fn previous(&self) -> PathBuf {
        self.folder.join("previous")
    }

    /// Room on the disk that is given back when it is decided about a run.
    pub fn reserve(&self) -> PathBuf {
        self.folder.join("reserve")
    }

    /// Processes of a switch, where it has no unit.
    pub fn switching(&self) -> PathBuf {
        self.folder.join("switching")
    }

    /// The output of the last activation, while it goes on in a unit of its own.
    pub fn activation_log(&self) -> PathBuf {
        self.folder.join("activation.log")
    }
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("can't make the folder {}", parent.display()))?;
    }
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .with_context(|| format!("can't make the folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path()).unwrap();
        let lock = state.lock().unwrap();
        let held = state.lock().unwrap_err().to_string();
        assert!(
            held.contains(&format!("process {}", std::process::id())),
            "{held}"
        );
        assert_eq!(state.holder(), Some(std::process::id()));
        drop(lock);
        assert_eq!(state.holder(), None);
        state.lock().unwrap();
    }

    #[test]
    fn a_path_that_means_something_else_to_nix_is_refused() {
        for bad in ["state", "/var/lib/be nto", "/a?b", "/a#b", "/a%b"] {
            assert!(State::new(Path::new(bad)).is_err(), "{bad:?}");
        }
    }

    // Issue 10, line 23: Nix since 2.20 says of a flake behind a link that it is a symlink.
    #[test]
    fn a_state_behind_a_link_is_used_by_its_real_path() {
        let disk = tempfile::tempdir().unwrap();
        let disk = disk.path().canonicalize().unwrap();
        fs::create_dir(disk.join("real")).unwrap();
        std::os::unix::fs::symlink("real", disk.join("link")).unwrap();
        for (named, real) in [
            ("link", "real"),
            ("link/bento", "real/bento"),
            ("new", "new"),
        ] {
            let state = State::new(&disk.join(named)).unwrap();
            assert_eq!(
                state.installed().parent(),
                Some(&*disk.join(real)),
                "{named}"
            );
        }
    }
}
