use std::net::Ipv6Addr;

use crate::text_type;

/// The host name or IP address of an appliance. Its characters have no meaning in a shell, since a proxy command runs
/// in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

text_type!(Address(String));

/// A text that isn't the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} isn't a server such as \"bento.example.org\", \"192.0.2.1\" or \"2001:db8::1\"")]
pub struct AddressError(pub String);

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        // Any other colon is that of a port, which is given separately.
        let has_port = || {
            let address = text.split('%').next().unwrap_or_default();
            text.contains(':') && address.parse::<Ipv6Addr>().is_err()
        };
        let is_word =
            (1..=255).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-');
        if is_word && !has_port() {
            Ok(Address(text.to_owned()))
        } else {
            Err(AddressError(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_port_and_no_characters_with_a_meaning_in_a_shell() {
        for good in [
            "bento.example.org",
            "192.0.2.1",
            "2001:db8::1",
            "fe80::1%eth0",
            "x",
        ] {
            assert_eq!(good.parse::<Address>().unwrap().as_str(), good);
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "a:22",
            "192.0.2.1:22",
            "[::1]",
            "-oProxy",
            "a b",
            "a\nb",
            "$(a)",
            "a\"",
            &long,
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
