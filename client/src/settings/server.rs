use std::fmt;

use bento_protocol::{Address, AddressError};
use serde::Deserialize;

use crate::server::host_key::HostKey;

/// A server of the settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The host name or IP address.
    pub address: Address,
    /// The port of SSH.
    #[serde(default = "port")]
    pub port: u16,
    /// The allowed host keys; several, while one replaces another.
    #[serde(default)]
    pub host_keys: Vec<HostKey>,
}

/// The default port of the appliance.
const PORT: u16 = 2222;

fn port() -> u16 {
    PORT
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.as_str().contains(':') {
            write!(formatter, "[{}]:{}", self.address, self.port)
        } else {
            write!(formatter, "{}:{}", self.address, self.port)
        }
    }
}

/// Why a text isn't a server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An invalid name or address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An invalid port.
    #[error("{0:?} isn't a port: a number from 1 to 65535")]
    Port(String),
}

/// A server without keys, from `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a bare IPv6 address.
impl std::str::FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || AddressError(text.to_owned());
        let number = |port: &str| {
            port.parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| ServerError::Port(port.to_owned()))
        };
        let (address, port) = if let Some(rest) = text.strip_prefix('[') {
            match rest.split_once(']').ok_or_else(wrong)? {
                (address, "") => (address, PORT),
                (address, port) => (address, number(port.strip_prefix(':').ok_or_else(wrong)?)?),
            }
        } else {
            match text.split_once(':') {
                Some((address, port)) if !port.contains(':') => (address, number(port)?),
                _ => (text, PORT),
            }
        };
        Ok(Server {
            address: address.parse()?,
            port,
            host_keys: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_parsed_from_its_usual_forms() {
        for (text, shown) in [
            ("bento.example.org", "bento.example.org:2222"),
            ("bento.example.org:22", "bento.example.org:22"),
            ("192.0.2.1:2022", "192.0.2.1:2022"),
            ("2001:db8::1", "[2001:db8::1]:2222"),
            ("[2001:db8::1]:22", "[2001:db8::1]:22"),
            ("[2001:db8::1]", "[2001:db8::1]:2222"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
        }
        for bad in [
            "", ":22", "a:b", "a:0", "a:65536", "[::1", "[::1]22", "-oProxy", "a b", "a;b", "$(a)",
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad:?}");
        }
        let error = "bento.example.org:99999".parse::<Server>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"99999\" isn't a port: a number from 1 to 65535"
        );
    }
}
