//! What a guest may have that most don't need.

use super::Disk;

/// What a guest has besides what every guest has. It needs systemd, and thus root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// A small disk for a part of it, to be filled up.
    pub disk: Option<Disk>,
    /// A network of its own, whose only other end is this machine. Its interface is `host0`; it comes
    /// up at boot, and the guest can take it down.
    pub network: bool,
}
