//! The key by which this machine is known.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ssh_key::{Algorithm, HashAlg, PrivateKey};

use crate::settings::Settings;

/// The machine's own key, with which it logs in.
pub struct Identity {
    file: PathBuf,
    /// The private key as it is in the file; libssh2 reads it itself.
    pub(crate) openssh: String,
    key: PrivateKey,
}

impl Identity {
    /// Reads settings, and the private key that they name.
    pub fn with_settings(config: &Path) -> anyhow::Result<(Settings, Self)> {
        let settings = Settings::read(config)?;
        let identity = Self::read(&settings.identity_file)?;
        Ok((settings, identity))
    }

    /// Reads a private key: ed25519, in OpenSSH's format, without a passphrase.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let openssh = fs::read_to_string(file).with_context(|| {
            format!(
                "can't read this machine's key {shown}: `ssh-keygen -t ed25519 -N '' -f {shown}` makes one, and so \
                 does `bento-client bootstrap`"
            )
        })?;
        let key = PrivateKey::from_openssh(&openssh)
            .with_context(|| format!("{shown} isn't a private key in OpenSSH's format"))?;
        if key.is_encrypted() {
            bail!(
                "the key {shown} has a passphrase, which nobody is there to type: \
                 `ssh-keygen -p -N '' -f {shown}` removes it"
            );
        }
        if key.algorithm() != Algorithm::Ed25519 {
            bail!(
                "the key {shown} is of type {}, but bento uses ed25519: `ssh-keygen -t ed25519 -N '' -f` makes one",
                key.algorithm()
            );
        }
        Ok(Identity {
            file: file.to_owned(),
            openssh,
            key,
        })
    }

    /// The public key, as the administrator enters it: `ssh-ed25519 AAAA… comment`.
    pub fn public_key(&self) -> anyhow::Result<String> {
        let key = self.key.public_key().to_openssh()?;
        Ok(key.trim_end().to_owned())
    }

    /// `SHA256:…`, as OpenSSH prints it.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The permissions of the file; those of anyone but its owner should be none.
    pub fn mode(&self) -> anyhow::Result<u32> {
        let metadata = fs::metadata(&self.file)
            .with_context(|| format!("can't read {}", self.file.display()))?;
        Ok(metadata.permissions().mode() & 0o7777)
    }
}
