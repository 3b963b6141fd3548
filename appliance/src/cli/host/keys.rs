use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::fleet::PublicKey;

/// The argument of `--key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyArgument {
    /// The key itself.
    Key(PublicKey),
    /// A file such as `id_ed25519.pub`.
    File(String),
    /// Standard input.
    Input,
}

/// The most bytes that are read: more than the keys of any machine.
const LIMIT: u64 = 64 << 10;

impl std::str::FromStr for KeyArgument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(KeyArgument::Input);
        }
        match text.parse() {
            Ok(key) => Ok(KeyArgument::Key(key)),
            Err(_) if Path::new(text).is_file() => Ok(KeyArgument::File(text.to_owned())),
            Err(error) => bail!("{error}; and there is no such file"),
        }
    }
}

impl KeyArgument {
    /// Reads the keys.
    ///
    /// # Errors
    /// When there is no key, or anything else.
    pub(super) fn read(&self, input: impl Read) -> anyhow::Result<Vec<PublicKey>> {
        let (name, text) = match self {
            KeyArgument::Key(key) => return Ok(vec![key.clone()]),
            KeyArgument::File(path) => {
                let file = fs::File::open(path);
                let file = file.with_context(|| format!("can't read {path}"))?;
                (
                    path.as_str(),
                    text_of(file).with_context(|| format!("can't read {path}"))?,
                )
            }
            KeyArgument::Input => {
                let text = text_of(input).context("can't read standard input")?;
                ("standard input", text)
            }
        };
        if text.contains("PRIVATE KEY-----") {
            bail!(
                "{name} is a private key, which must stay on its machine: use the public key, whose file ends in .pub"
            );
        }
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: anyhow::Result<Vec<PublicKey>> = lines
            .map(|line| {
                let key = line.parse();
                // A line of `ssh-keyscan` begins with the machine's address.
                let after = line.split_once(' ').and_then(|(_, key)| key.parse().ok());
                key.or_else(|error| after.ok_or(error))
                    .with_context(|| name.to_owned())
            })
            .collect();
        let keys = keys?;
        ensure!(!keys.is_empty(), "{name} holds no public key");
        Ok(keys)
    }
}

fn text_of(input: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    input.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";

    #[test]
    fn a_key_is_read_from_the_argument_a_file_or_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let of = |text: &str, input: &str| -> anyhow::Result<Vec<PublicKey>> {
            text.parse::<KeyArgument>()?.read(input.as_bytes())
        };
        let one = || vec![ONE.parse().unwrap()];
        assert_eq!(of(&format!("{ONE} root@a"), "").unwrap(), one());
        assert_eq!(
            of("-", &format!("# a:22 SSH-2.0\na.example.org {ONE}\n")).unwrap(),
            one()
        );
        assert!(of("-", "").is_err());
        let path = path.to_str().unwrap();
        assert!(of(path, "").is_err());
        fs::write(path, format!("{ONE} root@a\n")).unwrap();
        assert_eq!(of(path, "").unwrap(), one());
        fs::write(path, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let error = of(path, "").unwrap_err().to_string();
        assert!(error.contains("ends in .pub"), "{error}");
    }
}
