use std::fmt;

use serde::{Deserialize, Serialize};

/// A machine's name: a DNS label of at most 32 characters, which is also the name of its account.
///
/// ```
/// use bento_protocol::HostName;
/// assert!("kikimora".parse::<HostName>().is_ok());
/// assert!("Kikimora".parse::<HostName>().is_err());
/// assert!("root".parse::<HostName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Why a text isn't a machine's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Something other than a DNS label.
    #[error(
        "{0:?} can't be a machine's name: use 1 to 32 lower-case letters, digits and hyphens, \
         with no hyphen at either end"
    )]
    NotALabel(String),
    /// A name that the accounts of the container need themselves.
    #[error("{0:?} can't be a machine's name: the appliance needs that account itself")]
    Reserved(String),
}

impl HostName {
    /// The longest name, in characters: what Linux accepts as an account's name.
    pub const MAX_LENGTH: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = text.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        let is_label = (1..=Self::MAX_LENGTH).contains(&bytes.len())
            && bytes.iter().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if !is_label {
            return Err(HostNameError::NotALabel(text));
        }
        if matches!(text.as_str(), "root" | "sshd") {
            return Err(HostNameError::Reserved(text));
        }
        Ok(HostName(text))
    }
}

impl std::str::FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> String {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names_and_nothing_else_is() {
        for good in ["a", "0", "a-b", "web1", "abcdefghijklmnopqrstuvwxyz012345"] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(33);
        for bad in [
            "", "-a", "a-", "A", "a.b", "a_b", "ä", "a/b", "..", "a\n", &too_long,
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
        for reserved in ["root", "sshd"] {
            assert_eq!(
                reserved.parse::<HostName>(),
                Err(HostNameError::Reserved(reserved.into()))
            );
        }
    }

    #[test]
    fn json_is_checked_too() {
        assert!(serde_json::from_str::<HostName>("\"../b\"").is_err());
        assert_eq!(
            serde_json::from_str::<HostName>("\"b\"").unwrap(),
            "b".parse().unwrap()
        );
    }
}
