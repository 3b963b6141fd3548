use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::text_type;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

text_type!(Digest);

/// A text that isn't 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} isn't a SHA-256 digest of 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest of bytes that are all in memory.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// The digest of a hasher's input.
    pub fn from_hasher(hasher: sha2::Sha256) -> Self {
        Digest(hasher.finalize().into())
    }
}

impl std::str::FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let parse = || {
            let pairs = text.as_bytes().chunks_exact(2);
            if text.len() != 64 {
                return None;
            }
            let mut bytes = [0; 32];
            for (byte, pair) in bytes.iter_mut().zip(pairs) {
                *byte = digit(pair[0])? << 4 | digit(pair[1])?;
            }
            Some(Digest(bytes))
        };
        parse().ok_or_else(|| DigestError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An id covers a line with a digest for each file: one write for each byte took most of its time.
        const DIGITS: [char; 16] = [
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
        ];
        let halves = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let text: String = halves.map(|half| DIGITS[usize::from(half)]).collect();
        formatter.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The id of a generation, by which a machine polls, pulls, installs and reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(Digest);

impl GenerationId {
    /// The id from the digest of its lines (see [`crate::Manifest`]).
    pub(crate) fn from_digest(digest: Digest) -> Self {
        GenerationId(digest)
    }

    /// The first eight digits: enough for a person to distinguish two generations of a machine.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl std::str::FromStr for GenerationId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(GenerationId)
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_64_lower_case_digits() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of("").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(""));
        for bad in [
            &empty[1..],
            &empty.to_uppercase(),
            &format!("{empty}0"),
            "",
            &empty.replace('e', "g"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }
}
