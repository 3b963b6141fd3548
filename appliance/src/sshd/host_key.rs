mod spare;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tracing::{info, warn};

use crate::fleet::PublicKey;
use crate::store::atomic_file;
use crate::store::paths::State;

/// The key by which machines know the appliance. Every client has it pinned, so it is created once and never replaced
/// by accident: a damaged key is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    public: PublicKey,
}

impl HostKey {
    /// Reads the key of this state.
    ///
    /// # Errors
    /// When there is none, or it is damaged or can't be read.
    pub fn read(state: &State) -> Result<Self> {
        let path = state.host_key();
        let private = path.display();
        Self::read_file(&path, || {
            format!(
                "the host key {private} is damaged; put back the one that the machines know from a copy of /state, \
                 or, if it is lost, remove {private} and {private}.pub and give every machine the new key"
            )
        })
    }

    /// Reads the key of this state without the check by ssh-keygen: while machines are served, the
    /// [reaper](super::reap) may take its exit status, and it would seem to have failed.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn read_unchecked(state: &State) -> Result<Self> {
        let path = state.host_key();
        let key = ssh_key::PrivateKey::read_openssh_file(&path);
        let key = key.with_context(|| format!("can't read the host key {}", path.display()))?;
        let public = key.public_key().to_openssh()?;
        Ok(HostKey {
            public: public.parse()?,
        })
    }

    fn read_file(path: &Path, damaged: impl FnOnce() -> String) -> Result<Self> {
        let private = path.display();
        require_private(path)?;
        // ssh-keygen checks the file's checksum, and derives the public key from the private one.
        let text = run(&["-y", "-P", ""].map(OsStr::new), path).with_context(damaged)?;
        let public: PublicKey = text
            .parse()
            .with_context(|| format!("the host key {private}"))?;
        ensure!(
            public.authorized_line().starts_with("ssh-ed25519 "),
            "the host key {private} isn't of the kind ssh-ed25519, the only one that the appliance uses"
        );
        Ok(HostKey { public })
    }

    /// Reads the key of this state, or creates one if this state never had any.
    ///
    /// # Errors
    /// When the key is damaged, half of it is missing, or it can't be read or written.
    pub fn read_or_create(state: &State) -> Result<Self> {
        let path = state.host_key();
        let public = public_path(&path);
        clear_asides(&path)?;
        clear_asides(&state.spare_host_key())?;
        if !exists(&path)? {
            ensure!(
                !exists(&public)?,
                "the host key {} is gone, but {} is there: put the private key back from a copy of /state, or, if \
                 it is lost, remove the public one and give every machine the new key",
                path.display(),
                public.display()
            );
            create(&path).with_context(|| format!("can't make the host key {}", path.display()))?;
            let created = Self::read(state)?.public.fingerprint();
            if exists(&state.accounts())? {
                warn!(key = %created, "the host key was gone, and a new one was created: every machine must learn it");
            } else {
                info!(key = %created, "a host key was created");
            }
        }
        let key = Self::read(state)?;
        key.write_public(&public)?;
        Ok(key)
    }

    /// Writes the public key, as derived from the private one: a crash may have left none, or that of another key.
    fn write_public(&self, path: &Path) -> Result<()> {
        let line = format!("{}\n", self.public);
        if fs::read_to_string(path).is_ok_and(|old| old == line) {
            return Ok(());
        }
        atomic_file::write(path, line.as_bytes())
            .with_context(|| format!("can't write {}", path.display()))
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Checks it against the only keys with which the appliance may run; an empty list allows any.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn require(&self, allowed: &[PublicKey]) -> Result<()> {
        if allowed.is_empty() || allowed.contains(&self.public) {
            return Ok(());
        }
        let wanted: Vec<_> = allowed.iter().map(PublicKey::fingerprint).collect();
        bail!(
            "the host key of this /state, {}, is none of host_keys in fleet.toml ({}): mount the /state to which one of \
             those belongs, or correct host_keys",
            self.public.fingerprint(),
            wanted.join(", ")
        )
    }
}

/// Requires that only its owner can read the private key: ssh-keygen and sshd check that for files of root only.
fn require_private(path: &Path) -> Result<()> {
    let shown = path.display();
    let file = fs::metadata(path).with_context(|| format!("can't read the host key {shown}"))?;
    ensure!(
        file.is_file(),
        "the host key {shown} isn't a file: put it back from a copy of /state"
    );
    ensure!(
        file.uid() == rustix::process::geteuid().as_raw() && file.mode() & 0o077 == 0,
        "the host key {shown} isn't private to the container's root: give it to the user who runs podman, with mode 600"
    );
    Ok(())
}

fn public_path(private: &Path) -> PathBuf {
    private.with_added_extension("pub")
}

fn exists(path: &Path) -> Result<bool> {
    // Not Path::exists, for which a dangling symlink doesn't exist.
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("can't check {}", path.display())),
    }
}

/// Removes the leftovers of a crash while a key was created, or its public half written.
fn clear_asides(path: &Path) -> Result<()> {
    let aside = atomic_file::aside(path);
    let of_public = atomic_file::aside(&public_path(path));
    for leftover in [&aside, &public_path(&aside), &of_public] {
        atomic_file::remove(leftover)
            .with_context(|| format!("can't remove {}", leftover.display()))?;
    }
    Ok(())
}

/// Creates a key aside and moves its private half into place. The public half is derived again when needed; alone, it
/// would look like the loss of the private one.
fn create(path: &Path) -> Result<()> {
    let folder = path.parent().context("the key has no folder")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    clear_asides(path)?;
    let aside = atomic_file::aside(path);
    run(
        &["-q", "-t", "ed25519", "-N", "", "-C", "bento"].map(OsStr::new),
        &aside,
    )?;
    fs::remove_file(public_path(&aside))?;
    File::open(&aside)?.sync_all()?;
    atomic_file::rename(&aside, path)?;
    atomic_file::sync_folder_of(folder)?;
    Ok(())
}

/// Runs ssh-keygen on a key file, and returns its output.
fn run(arguments: &[&OsStr], key: &Path) -> Result<String> {
    let program = super::command::find("ssh-keygen")?;
    let output = Command::new(&program)
        .args(arguments)
        .arg("-f")
        .arg(key)
        .env_clear()
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("can't run {}", program.display()))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ssh-keygen: {}",
        super::log::one_line(&message)
    );
    String::from_utf8(output.stdout).context("ssh-keygen printed something else than text")
}
