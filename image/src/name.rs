//! The name of an image.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, ensure};

/// A full image name: registry, path and tag, e.g. `localhost/bento:latest`.
///
/// Full, because tools complete short names differently: `bento` may become
/// `docker.io/library/bento` in one tool and `localhost/bento` in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName(String);

impl ImageName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(name: &str) -> Result<ImageName> {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, ""));
        let (registry, path) = repository.split_once('/').unwrap_or(("", repository));
        ensure!(
            is_registry(registry) && path.split('/').all(is_path_part) && is_tag(tag),
            "it must be a full image name, such as localhost/bento:latest: \
             a registry, a path in lower case, and a tag"
        );
        Ok(ImageName(name.to_owned()))
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether a name's first part is a registry: it has a dot or a port, or is localhost.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    (host == "localhost" || host.contains('.') || text.contains(':'))
        && !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
        && port.parse::<u16>().is_ok()
}

/// The grammar of the OCI distribution specification: lower-case words between single separators.
fn is_path_part(text: &str) -> bool {
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends_well(text.chars().next())
        && ends_well(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        && !["..", "._", "_.", "___"]
            .iter()
            .any(|bad| text.contains(bad))
}

fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_are_kept_as_they_are() {
        for name in [
            "localhost/bento:latest",
            "example.org/team/bento:0.1.0",
            "127.0.0.1:5000/bento:v1_a",
        ] {
            assert_eq!(name.parse::<ImageName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn short_or_malformed_names_are_refused() {
        for name in [
            "",
            "bento",
            "bento:latest",
            "localhost/bento",
            "team/bento:latest",
            "localhost/Bento:latest",
            "localhost/bento:",
            "localhost/:latest",
            "localhost//bento:latest",
            "localhost/-bento:latest",
            "localhost/bento:la test",
            "localhost:port/bento:latest",
            "localhost/bento@sha256:00",
        ] {
            assert!(name.parse::<ImageName>().is_err(), "{name}");
        }
    }
}
