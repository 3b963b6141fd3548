//! A network of a guest's own: a cable to this machine that the guest can pull out.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::Guest;

/// Brings the guest's end up at each boot, as a machine's own configuration would.
/// Not in /etc/systemd/system, which NixOS has as a symlink.
const UNIT: &str = "etc/systemd/system.attached/env-network.service";

/// The two ends of a cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cable {
    /// What this machine's end is called; in the guest it is `host0`.
    pub(super) interface: String,
    /// This machine's address on it.
    pub(super) host: Ipv4Addr,
    guest: Ipv4Addr,
}

impl Cable {
    /// The cable of the guest of this name. Other guests, of other processes too, have others.
    pub(super) fn of(name: &str) -> Self {
        let digest = Sha256::digest(name);
        let number = u32::from_be_bytes([0, digest[0], digest[1], digest[2]]);
        // One of the 2^21 nets of four addresses in 10.128.0.0/9.
        let net = u32::from(Ipv4Addr::new(10, 128, 0, 0)) | (number & 0x1f_ffff) << 2;
        Cable {
            interface: format!("bento-{number:06x}"),
            host: Ipv4Addr::from(net + 1),
            guest: Ipv4Addr::from(net + 2),
        }
    }

    /// Writes what the guest needs into its tree, and what `systemd.sh` does into its folder.
    pub(super) fn provision(&self, folder: &Path) -> Result<()> {
        let (interface, host, guest) = (&self.interface, self.host, self.guest);
        fs::write(folder.join("cable"), format!("{interface} {host}/30\n"))?;
        let unit = format!(
            "[Unit]\n\
             Description=The network of this machine\n\
             Before=network-online.target\n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart=ip address replace {guest}/30 dev host0\n\
             ExecStart=ip link set host0 up\n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        );
        let upper = folder.join("upper");
        let wants = upper.join("etc/systemd/system.attached/multi-user.target.wants");
        fs::create_dir_all(&wants)?;
        fs::write(upper.join(UNIT), unit)?;
        std::os::unix::fs::symlink(Path::new("/").join(UNIT), wants.join("env-network.service"))?;
        Ok(())
    }
}

impl Guest {
    /// Where a guest that was booted with a network of its own finds this machine, which is all that
    /// it reaches; a [`Proxy`](crate::Proxy) there leads it to the appliance. None for a guest that
    /// shares this machine's network.
    #[must_use]
    pub fn host_address(&self) -> Option<Ipv4Addr> {
        self.features.network.then(|| Cable::of(&self.name).host)
    }
}
