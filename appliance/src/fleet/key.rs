use std::fmt;

use bento_protocol::text_type;
use ssh_key::{Algorithm, HashAlg};

/// An SSH public key: the algorithm, the key in base64, and perhaps a comment.
#[derive(Debug, Clone)]
pub struct PublicKey(ssh_key::PublicKey);

text_type!(PublicKey);

/// Why a text isn't a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not a line of a `.pub` file.
    #[error("{0:?} isn't an SSH public key such as \"ssh-ed25519 AAAA… comment\"")]
    Form(String),
    /// An algorithm that current OpenSSH refuses.
    #[error("a key of the kind {0} isn't safe any more: use ssh-ed25519")]
    Weak(String),
}

impl PublicKey {
    /// The line for an `authorized_keys` file, without the comment, which is arbitrary text.
    pub fn authorized_line(&self) -> String {
        let mut key = self.0.clone();
        key.set_comment("");
        key.to_string().trim_end().to_owned()
    }

    /// The same line with the fingerprint as its comment: a key to paste, and a fingerprint to compare.
    pub fn line_with_fingerprint(&self) -> String {
        format!("{} {}", self.authorized_line(), self.fingerprint())
    }

    /// The fingerprint as OpenSSH prints it, such as `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

/// Compares the keys without their comments.
impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key_data() == other.0.key_data()
    }
}

impl Eq for PublicKey {}

impl std::str::FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let form = || PublicKeyError::Form(text.chars().take(120).collect());
        if text.chars().any(char::is_control) {
            return Err(form());
        }
        let key = ssh_key::PublicKey::from_openssh(text).map_err(|_| form())?;
        match key.algorithm() {
            Algorithm::Dsa => Err(PublicKeyError::Weak("ssh-dss".into())),
            _ => Ok(PublicKey(key)),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.to_string().trim_end())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";

    #[test]
    fn comments_do_not_count() {
        let bare: PublicKey = ONE.parse().unwrap();
        let commented: PublicKey = format!("  {ONE} root@kikimora \"x\" # y\n")
            .parse()
            .unwrap();
        assert_eq!(bare, commented);
        assert_eq!(commented.authorized_line(), ONE);
    }

    #[test]
    fn options_and_other_text_are_not_keys() {
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "command=\"x\" ",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
        ] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad:?}");
        }
        assert!(
            format!("command=\"sh\" {ONE}")
                .parse::<PublicKey>()
                .is_err()
        );
        assert!(format!("{ONE}\n{ONE}").parse::<PublicKey>().is_err());
    }
}
