use std::collections::BTreeMap;

use bento_protocol::{Area, FilePath, FilePathError, text_type};
use serde::Deserialize;

/// `[restart_units]`: units to restart when a secret changes, by the secret's path below `secrets/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, Vec<UnitName>>")]
pub struct RestartUnits(BTreeMap<FilePath, Vec<UnitName>>);

impl RestartUnits {
    /// The units of a secret, a file in `secrets/`.
    pub fn of(&self, secret: &FilePath) -> &[UnitName] {
        self.0.get(secret).map_or(&[], Vec::as_slice)
    }

    /// Every listed secret, with its units.
    pub fn iter(&self) -> impl Iterator<Item = (&FilePath, &[UnitName])> {
        self.0
            .iter()
            .map(|(secret, units)| (secret, units.as_slice()))
    }
}

impl TryFrom<BTreeMap<String, Vec<UnitName>>> for RestartUnits {
    type Error = FilePathError;

    fn try_from(table: BTreeMap<String, Vec<UnitName>>) -> Result<Self, Self::Error> {
        let checked = table
            .into_iter()
            .map(|(secret, units)| Ok((FilePath::new(Area::Secrets, &secret)?, units)));
        Ok(RestartUnits(checked.collect::<Result<_, _>>()?))
    }
}

/// The name of a systemd unit, with its type, such as `wireguard-wg0.service`; it can't be taken for an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitName(String);

text_type!(UnitName(String));

/// A text that isn't the name of a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} isn't the name of a unit such as \"wireguard-wg0.service\"")]
pub struct UnitNameError(String);

impl UnitName {
    /// As systemd limits it, in bytes.
    const MAX_BYTES: usize = 255;
}

impl std::str::FromStr for UnitName {
    type Err = UnitNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // systemd.unit(5) names these characters.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let has_type = text.rsplit_once('.').is_some_and(|(name, kind)| {
            !name.is_empty()
                && !kind.is_empty()
                && kind.bytes().all(|byte| byte.is_ascii_lowercase())
        });
        let good = has_type
            && text.len() <= Self::MAX_BYTES
            && !text.starts_with('-')
            && text.bytes().all(allowed);
        if good {
            Ok(UnitName(text.to_owned()))
        } else {
            Err(UnitNameError(text.chars().take(80).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_a_name_and_a_type() {
        for good in [
            "a.service",
            "wg-quick@wg0.service",
            "dev-disk\\x2duuid.mount",
        ] {
            assert!(good.parse::<UnitName>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "nginx",
            ".service",
            "a.",
            "--all.service",
            "a b.service",
            "a;b.service",
            "../a.service",
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn units_are_found_by_the_secret() {
        let table = |key: &str| {
            let units = vec![UnitName("a.service".into())];
            RestartUnits::try_from(BTreeMap::from([(key.to_owned(), units)]))
        };
        let units = table("vpn/wireguard.key").unwrap();
        let secret = |path: &str| path.parse().unwrap();
        assert_eq!(
            units.of(&secret("secrets/vpn/wireguard.key"))[0].as_str(),
            "a.service"
        );
        assert_eq!(units.of(&secret("secrets/wireguard.key")), []);
        assert_eq!(units.iter().count(), 1);
        for bad in ["../a", "/a", "", "a//b"] {
            assert!(table(bad).is_err(), "{bad:?}");
        }
    }
}
