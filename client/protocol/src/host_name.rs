use crate::text_type;

/// A machine's name: a DNS label of at most 32 characters, and the name of its account.
///
/// ```
/// use bento_protocol::HostName;
/// assert!("kikimora".parse::<HostName>().is_ok());
/// assert!("Kikimora".parse::<HostName>().is_err());
/// assert!("root".parse::<HostName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

text_type!(HostName(String));

/// Why a text isn't a machine's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Not a DNS label.
    #[error(
        "{0:?} can't be a machine's name: use 1 to 32 lower-case letters, digits and hyphens, \
         with no hyphen at either end{advice}",
        advice = advice(.0)
    )]
    NotALabel(String),
    /// A name of one of the container's own accounts.
    #[error("{0:?} can't be a machine's name: the appliance itself uses that account")]
    Reserved(String),
}

/// Advice for a machine with such a name in its flake, if there is a similar valid name.
fn advice(name: &str) -> String {
    HostName::suggested_by(name).map_or(String::new(), |suggested| {
        format!("; name it {suggested} instead, with attribute = \"{name}\" in its table [hosts.{suggested}] of fleet.toml")
    })
}

impl HostName {
    /// The longest name, in characters: what Linux accepts as an account's name.
    pub const MAX_LENGTH: usize = 32;

    /// The valid name that is similar to a name with capitals, underscores or a domain; none if there isn't one.
    ///
    /// ```
    /// use bento_protocol::HostName;
    /// let suggested = HostName::suggested_by("Build_01.example.org");
    /// assert_eq!(suggested, "build-01".parse().ok());
    /// ```
    pub fn suggested_by(name: &str) -> Option<Self> {
        let is_a_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let (label, _) = name.split_once('.').unwrap_or((name, ""));
        let label = label.to_ascii_lowercase().replace('_', "-");
        let label = label.get(..Self::MAX_LENGTH).unwrap_or(&label);
        let suggested = label.trim_matches('-').parse().ok();
        suggested.filter(|_| name.chars().all(is_a_name))
    }
}

impl std::str::FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        let is_label = (1..=Self::MAX_LENGTH).contains(&bytes.len())
            && bytes.iter().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if !is_label {
            return Err(HostNameError::NotALabel(text.to_owned()));
        }
        if matches!(text, "root" | "sshd") {
            return Err(HostNameError::Reserved(text.to_owned()));
        }
        Ok(HostName(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_are_names() {
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

    // Issue 10, line 9.
    #[test]
    fn an_invalid_name_comes_with_a_valid_one_and_the_attribute_for_it() {
        for (name, suggested) in [
            ("CORE-PW0D2M1A", "core-pw0d2m1a"),
            ("build01.example.org", "build01"),
            ("my_desk_", "my-desk"),
            (
                "a-very-long-name-that-goes-on-and-on-and-on",
                "a-very-long-name-that-goes-on-an",
            ),
        ] {
            let said = name.parse::<HostName>().unwrap_err().to_string();
            let way = format!(
                "; name it {suggested} instead, with attribute = \"{name}\" in its table [hosts.{suggested}] of fleet.toml"
            );
            assert!(said.ends_with(&way), "{said}");
        }
        for name in ["", "../bad", "ä", ".x", "---", "ROOT", "a b"] {
            assert_eq!(HostName::suggested_by(name), None, "{name:?}");
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
