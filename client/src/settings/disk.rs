use serde::Deserialize;

use super::byte_size::ByteSize;

/// `[disk]`: what may be deleted to free space for a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// With less free space than this in the Nix store, old systems and garbage are deleted before a build; `"1GiB"` by
    /// default. `"0B"`: nothing is deleted.
    pub store_free: ByteSize,
    /// Whether Nix' garbage may be collected for it, besides removing old systems from the profile; true by default.
    pub collect_garbage: bool,
    /// The most generations of the system profile that are kept, besides those that run, were booted or are booted
    /// next: the newest ones, at least 2, 5 by default.
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

/// A number of systems to keep, at least 2: the running one, and one to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct KeptSystems(u32);

/// A number of systems that leaves none to go back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is too few: keep at least 2 systems, the running one and one to go back to")]
pub struct KeptSystemsError(u32);

impl KeptSystems {
    /// The number.
    pub fn count(self) -> usize {
        // With fewer than 32 bits in an address there are fewer systems, too.
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
