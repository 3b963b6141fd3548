use std::process::Command;

/// A version number of Nix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

/// The version of the Nix in PATH; none if there is no Nix.
pub fn version() -> Option<Version> {
    let output = Command::new("nix").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // `nix (Nix) 2.18.1`, `nix (Lix, like Nix) 2.91.1`
    let version = text.lines().next()?.split_whitespace().last()?;
    Some(Version(version.to_owned()))
}

impl Version {
    /// Whether `nix flake update` takes the flake after `--flake`, and names of inputs before it: since 2.19, and in
    /// every Lix, whose numbers begin with 2.90. Before, the flake was its first argument.
    pub fn updates_single_inputs(&self) -> bool {
        let parse = || {
            let mut parts = self.0.split('.').map(|part| {
                let end = part
                    .find(|character: char| !character.is_ascii_digit())
                    .unwrap_or(part.len());
                part[..end].parse::<u32>().ok()
            });
            Some((parts.next()??, parts.next()??))
        };
        // An unknown version is likely newer than 2.19.
        parse().is_none_or(|version| version >= (2, 19))
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0
    }
}

#[cfg(test)]
impl From<&str> for Version {
    fn from(version: &str) -> Self {
        Version(version.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_nix_gets_its_own_command_line() {
        for (version, takes) in [
            ("2.8.0", false),
            ("2.18.1", false),
            ("2.19.0", true),
            ("2.24pre20240723_142ca6e", true),
            ("2.26.3", true),
            ("2.91.1", true),
            ("3.0", true),
            ("unknown", true),
        ] {
            assert_eq!(
                Version::from(version).updates_single_inputs(),
                takes,
                "{version}"
            );
        }
    }
}
