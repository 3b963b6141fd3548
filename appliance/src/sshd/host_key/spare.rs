//! The spare host key: a second key beside the one in use, so that it can replace that one while the machines know both.

use std::io;

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{HostKey, clear_asides, create, exists, public_path};
use crate::fleet::PublicKey;
use crate::store::atomic_file;
use crate::store::paths::State;

impl HostKey {
    /// The spare key: the next key before a switch, and the last key after it. None without a replacement in progress.
    ///
    /// # Errors
    /// When it is damaged or can't be read.
    pub fn spare(state: &State) -> Result<Option<Self>> {
        let path = state.spare_host_key();
        if !exists(&path)? {
            return Ok(None);
        }
        let damaged = || {
            format!(
                "the spare host key {} is damaged: remove it with `bento host-key --forget`",
                path.display()
            )
        };
        Self::read_file(&path, damaged).map(Some)
    }

    /// Creates a spare key, unless there is one already.
    ///
    /// # Errors
    /// When this state has no key in use, or the spare is damaged or can't be written.
    pub fn prepare_spare(state: &State) -> Result<Self> {
        Self::read(state)?;
        if let Some(spare) = Self::spare(state)? {
            return Ok(spare);
        }
        let path = state.spare_host_key();
        create(&path).with_context(|| format!("can't make the host key {}", path.display()))?;
        Self::spare(state)?.with_context(|| format!("{} is gone again", path.display()))
    }

    /// Exchanges the spare key and the one in use, in one step: each connection has a new sshd, which reads its key at the
    /// start. Returns the key that is in use from now on.
    ///
    /// # Errors
    /// When there is no spare key, or the appliance may not run with it; nothing is changed then.
    pub fn switch(state: &State, allowed: &[PublicKey]) -> Result<Self> {
        Self::read(state)?;
        let spare = Self::spare(state)?;
        let spare = spare.context(
            "there is no other key to switch to: `bento host-key --prepare` makes one, which the machines must know \
             before",
        )?;
        ensure!(
            allowed.is_empty() || allowed.contains(spare.public()),
            "the other key, {}, is none of host_keys in fleet.toml, and the appliance wouldn't start again with it: add \
             it there, and let the machines know it, first",
            spare.public().fingerprint()
        );
        let (used, other) = (state.host_key(), state.spare_host_key());
        renameat_with(CWD, &used, CWD, &other, RenameFlags::EXCHANGE)
            .map_err(io::Error::from)
            .and_then(|()| atomic_file::sync_folder_of(&used))
            .with_context(|| {
                format!(
                    "{} and {} can't change places",
                    used.display(),
                    other.display()
                )
            })?;
        spare.write_public(&public_path(&used))?;
        Ok(spare)
    }

    /// Removes the spare key, also a damaged one.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn forget_spare(state: &State) -> Result<()> {
        let path = state.spare_host_key();
        clear_asides(&path)?;
        atomic_file::remove(&path).with_context(|| format!("can't remove {}", path.display()))
    }
}
