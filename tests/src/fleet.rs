//! A fleet folder, as an administrator would write it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{Podman, key};

/// A debounce for whatever isn't about it.
pub const SHORT: &str = "200ms";

/// A fleet folder of podman's user, with a key pair for each host; both go when this value is dropped.
#[derive(Debug)]
pub struct Fleet {
    folder: TempDir,
    keys: TempDir,
    podman: Podman,
    server: String,
    publish: String,
    hosts: BTreeMap<String, String>,
}

/// One host while it is added: what is in its folder, and in its table of `fleet.toml`.
#[derive(Debug)]
pub struct Host {
    folder: PathBuf,
    secrets: PathBuf,
    settings: String,
}

impl Fleet {
    /// A fleet without hosts.
    ///
    /// # Errors
    /// If no folder can be made.
    pub fn new() -> Result<Self> {
        let fleet = Self {
            folder: TempDir::with_prefix("bento-fleet-")?,
            keys: TempDir::with_prefix("bento-keys-")?,
            podman: Podman::new()?,
            server: "address = \"127.0.0.1\"\n".to_owned(),
            publish: format!("debounce = \"{SHORT}\"\n"),
            hosts: BTreeMap::new(),
        };
        fleet.save()?;
        Ok(fleet)
    }

    /// Replaces what `fleet.toml` says under `[server]`, and any tables but hosts that follow it.
    ///
    /// # Errors
    /// If `fleet.toml` can't be written.
    pub fn server(&mut self, settings: &str) -> Result<()> {
        self.server = format!("{settings}\n");
        self.save()
    }

    /// Replaces what `fleet.toml` says under `[publish]`, where else only a debounce stands that is short enough for a test.
    ///
    /// # Errors
    /// If `fleet.toml` can't be written.
    pub fn publish(&mut self, settings: &str) -> Result<()> {
        self.publish = format!("{settings}\n");
        self.save()
    }

    /// Adds a host with a new key, or replaces what is in `fleet.toml` for it.
    ///
    /// # Errors
    /// If `fill` fails, or something can't be written.
    pub fn host(&mut self, name: &str, fill: impl FnOnce(&mut Host) -> Result<()>) -> Result<()> {
        let mut host = Host {
            folder: self.path().join("hosts").join(name),
            secrets: self.path().join("bento-secrets").join(name),
            settings: String::new(),
        };
        fill(&mut host)?;
        let key = self.public_key(name)?;
        let settings = format!("[hosts.{name}]\nkeys = [\"{key}\"]\n{}", host.settings);
        self.hosts.insert(name.to_owned(), settings);
        self.save()
    }

    /// Removes a host from `fleet.toml`; its folder stays.
    ///
    /// # Errors
    /// If `fleet.toml` can't be written.
    pub fn forget(&mut self, name: &str) -> Result<()> {
        self.hosts.remove(name);
        self.save()
    }

    /// Changes several files as one: nothing is published meanwhile, as while git is at work.
    ///
    /// # Errors
    /// If `edit` fails, or git's lock can't be made or removed.
    pub fn at_once(&self, edit: impl FnOnce() -> Result<()>) -> Result<()> {
        let git = self.path().join(".git");
        let was_there = git.exists();
        self.write(".git/index.lock", "")?;
        let edited = edit();
        if was_there {
            fs::remove_file(git.join("index.lock"))?;
        } else {
            fs::remove_dir_all(git)?;
        }
        edited
    }

    /// The fleet folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The private key of a host: the public one is what `fleet.toml` names.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.keys.path().join(name)
    }

    /// Writes a file of the fleet folder, and the folders that lead to it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        write(&self.path().join(path), content.as_ref())?;
        self.give_away()
    }

    /// Removes a file or a folder of the fleet folder.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove(&self, path: &str) -> Result<()> {
        let path = self.path().join(path);
        let removed = if fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Gives what is in the folder to the user whose fleet it is; for callers that wrote in it themselves.
    ///
    /// # Errors
    /// If something can't be given away.
    pub fn give_away(&self) -> Result<()> {
        self.podman.own(self.path())
    }

    fn public_key(&self, name: &str) -> Result<String> {
        let key = self.key(name);
        if !key.exists() {
            key::make(&key, &format!("root@{name}"))?;
        }
        Ok(key::public(&key)?)
    }

    fn save(&self) -> Result<()> {
        // A temporary folder is its owner's alone; this one is an administrator's.
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755))?;
        let mut text = format!("[server]\n{}\n[publish]\n{}", self.server, self.publish);
        for host in self.hosts.values() {
            text.push('\n');
            text.push_str(host);
        }
        self.write("fleet.toml", text)
    }
}

impl Host {
    /// Writes a file of the host's folder, and the folders that lead to it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn file(&mut self, path: &str, content: impl AsRef<[u8]>) -> Result<&mut Self> {
        write(&self.folder.join(path), content.as_ref())?;
        Ok(self)
    }

    /// Makes a symlink in the host's folder; `target` is its text.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn link(&mut self, path: &str, target: &str) -> Result<&mut Self> {
        let path = self.folder.join(path);
        make_parent(&path)?;
        symlink(target, &path)
            .with_context(|| format!("cannot make the symlink {}", path.display()))?;
        Ok(self)
    }

    /// Writes a secret of the host, for its owner's eyes only.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn secret(&mut self, path: &str, content: impl AsRef<[u8]>) -> Result<&mut Self> {
        let path = self.secrets.join(path);
        write(&path, content.as_ref())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(self)
    }

    /// Adds lines to the host's table of `fleet.toml`.
    pub fn settings(&mut self, lines: &str) -> &mut Self {
        self.settings.push_str(lines);
        self.settings.push('\n');
        self
    }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    make_parent(path)?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file needs a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}
