use serde::Deserialize;

use super::byte_size::ByteSize;

/// `[disk]`: what may be thrown away so that a build has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// With less free space than this in the Nix store, old systems and garbage go before a build; `"1GiB"` by
    /// default. `"0B"`: nothing is thrown away.
    pub store_free: ByteSize,
    /// Whether Nix' garbage may be collected for it, besides removing old systems from the profile; true by default.
    pub collect_garbage: bool,
    /// How many generations of the system profile stay at most, beside those that run, were booted or are booted next:
    /// the newest ones, at least 2, 5 by default.
    pub keep_systems: KeptSystems,
}

impl Default for Disk {
    fn default() -> Self {
        Disk {
            store_free: ByteSize::new(1 << 30),
            collect_garbage: true,
            keep_systems: KeptSystems(5),
        }
    }
}

/// A number of systems that stay, from 2 on: the one that runs, and one to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct KeptSystems(u32);

/// A number of systems with which there would be nothing to go back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is too few: at least 2 systems stay, the one that runs and one to go back to")]
pub struct KeptSystemsError(u32);

impl KeptSystems {
    /// The number.
    pub fn count(self) -> usize {
        // Where an address has fewer than 32 bits there are fewer systems, too.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl TryFrom<u32> for KeptSystems {
    type Error = KeptSystemsError;

    fn try_from(count: u32) -> Result<Self, Self::Error> {
        match count {
            0 | 1 => Err(KeptSystemsError(count)),
            _ => Ok(KeptSystems(count)),
        }
    }
}
