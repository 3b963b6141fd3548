//! Which kinds of guests there are, and which can run here.

use std::env;
use std::fmt;
use std::fs;

use anyhow::{Result, bail};
use nix::unistd::Uid;

/// The cgroup that holds those of all guests.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup/bento-tests";

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole machine: systemd-nspawn, systemd, Nix. Needs root.
    Systemd,
    /// A root folder and process ids of its own, with real Nix, but without systemd.
    Root,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Systemd => "systemd-nspawn",
            Self::Root => "pivot_root, without systemd",
        })
    }
}

impl Kind {
    /// The best kind that can run here, or the one that `BENTO_TEST_GUEST` (`systemd`, `root`) asks for.
    ///
    /// # Errors
    /// If the variable holds anything else.
    pub fn here() -> Result<Self> {
        match env::var("BENTO_TEST_GUEST").as_deref() {
            Ok("systemd") => Ok(Self::Systemd),
            Ok("root") => Ok(Self::Root),
            Ok(other) => {
                bail!("BENTO_TEST_GUEST is {other:?}; it may be \"systemd\" or \"root\"")
            }
            // Only real root may boot a machine; its cgroups show whether it is that.
            Err(_) if Uid::effective().is_root() && fs::create_dir_all(CGROUPS).is_ok() => {
                Ok(Self::Systemd)
            }
            Err(_) => Ok(Self::Root),
        }
    }
}
