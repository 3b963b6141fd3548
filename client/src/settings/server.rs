use std::fmt;

use bento_protocol::{Address, AddressError};
use serde::Deserialize;

use crate::server::host_key::HostKey;

/// One of the servers in the settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// A name or an IP address.
    pub address: Address,
    /// The port of its SSH.
    #[serde(default = "port")]
    pub port: u16,
    /// The keys of which it must show one; several, while one replaces another.
    #[serde(default)]
    pub host_keys: Vec<HostKey>,
}

/// The port on which the appliance is published.
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

/// What can't be a server on a command line.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its name or address isn't one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Its port isn't one.
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
    fn a_server_is_written_as_people_write_it() {
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
