use std::net::Ipv6Addr;

use crate::text_type;

/// The name or the IP address at which an appliance is reached, of characters that also mean nothing to a shell, which a
/// proxy command passes through.
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
        // A colon elsewhere is that of a port, which is said apart.
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
    fn an_address_has_no_port_and_nothing_that_a_shell_would_take_apart() {
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
