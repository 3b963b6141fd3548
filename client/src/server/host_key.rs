//! The keys that identify servers.

use std::fmt;

use bento_protocol::text_type;
use ssh_key::{Algorithm, HashAlg, PublicKey};

/// A server's host key: ed25519, compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    key: PublicKey,
}

text_type!(HostKey);

/// A text or blob that isn't an ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} isn't a host key such as \"ssh-ed25519 AAAA…\"; `bento host-key` on the appliance prints the right one"
)]
pub struct HostKeyError(String);

impl HostKey {
    /// A key from the form in which a server shows it in the handshake.
    pub fn from_wire(blob: &[u8]) -> Result<Self, HostKeyError> {
        PublicKey::from_bytes(blob)
            .ok()
            .and_then(Self::ed25519)
            .ok_or_else(|| HostKeyError(format!("{} bytes", blob.len())))
    }

    fn ed25519(mut key: PublicKey) -> Option<Self> {
        // The comment is no part of the key: two spellings of one key are equal.
        key.set_comment("");
        (key.algorithm() == Algorithm::Ed25519).then_some(HostKey { key })
    }

    /// The fingerprint, for people to compare: `SHA256:…`, as OpenSSH prints it.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }
}

impl std::str::FromStr for HostKey {
    type Err = HostKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        PublicKey::from_openssh(text.trim())
            .ok()
            .and_then(Self::ed25519)
            .ok_or_else(|| HostKeyError(text.chars().take(200).collect()))
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.key.to_openssh().map_err(|_| fmt::Error)?;
        formatter.write_str(text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn a_comment_is_no_part_of_a_key() {
        let commented: HostKey = format!("{KEY} root@appliance\n").parse().unwrap();
        assert_eq!(commented, KEY.parse().unwrap());
        assert_eq!(commented.to_string(), KEY);
        let blob = commented.key.to_bytes().unwrap();
        assert_eq!(HostKey::from_wire(&blob), Ok(commented));
    }

    #[test]
    fn only_ed25519_is_a_host_key() {
        for bad in [
            "",
            "ssh-ed25519",
            &KEY[..60],
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=",
        ] {
            assert!(bad.parse::<HostKey>().is_err(), "{bad:?}");
        }
        assert!(HostKey::from_wire(b"\0\0\0\x0bssh-ed25519").is_err());
    }
}
