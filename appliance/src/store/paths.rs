//! All paths in `/state` and `/run/bento`.

use std::path::{Path, PathBuf};

use bento_protocol::HostName;

/// The persistent folder: host keys, the last valid fleet, generations and reports.
#[derive(Debug, Clone)]
pub struct State {
    root: PathBuf,
}

impl State {
    /// The state in a folder, `/state` in the container.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        State { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock of the one appliance that uses this state.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// sshd's private key; the public one lies beside it with `.pub`.
    pub fn host_key(&self) -> PathBuf {
        self.root.join("keys/ssh_host_ed25519_key")
    }

    /// The second private host key, while one replaces the other: the next or the previous one.
    pub fn spare_host_key(&self) -> PathBuf {
        self.root.join("keys/spare_ssh_host_ed25519_key")
    }

    /// The last valid fleet, as JSON.
    pub fn fleet(&self) -> PathBuf {
        self.root.join("fleet.json")
    }

    /// The accounts of the machines, as JSON.
    pub fn accounts(&self) -> PathBuf {
        self.root.join("accounts.json")
    }

    /// The last notifications, as JSON ([`crate::notify::LastSentFile`]).
    pub fn notified(&self) -> PathBuf {
        self.root.join("notified.json")
    }

    /// The folder of all machines.
    pub fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    /// The folder of removed machines.
    pub fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }

    /// The folder of one removed machine, with [`HostState::OUTLAST`].
    pub fn removed_host(&self, name: &HostName) -> HostState {
        HostState {
            root: self.removed().join(name.as_str()),
        }
    }

    /// The folder of one machine.
    pub fn host(&self, name: &HostName) -> HostState {
        HostState {
            root: self.hosts().join(name.as_str()),
        }
    }
}

/// The persistent folder of one machine.
#[derive(Debug, Clone)]
pub struct HostState {
    root: PathBuf,
}

impl HostState {
    /// Files that are kept after the removal of a machine: its reports and the time of its last contact, but no
    /// publication.
    pub const OUTLAST: [&str; 3] = ["reports", "summary.json", "seen"];

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The symlink to the published folder in [`Self::publications`]; sshd's `ChrootDirectory`.
    pub fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    /// The folder of publications, each a chroot, named by a number that only grows.
    pub fn publications(&self) -> PathBuf {
        self.root.join("publications")
    }

    /// The published generation and its time, as JSON ([`crate::publication::published::Published`]). It is beside the
    /// chroot of [`Self::current`], so that both change in one step.
    pub fn published(&self) -> PathBuf {
        self.current().join("../published.json")
    }

    /// Manifests of the last few generations, for deltas to the published one.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// Earlier publications, by number, for comparison with later ones. No machine can access them.
    pub fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// An empty file whose modification time is the last contact.
    pub fn seen(&self) -> PathBuf {
        self.root.join("seen")
    }

    /// The folder of received reports.
    pub fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }

    /// The summary of the reports for status, as JSON.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }
}

/// The folder of files that last as long as the container.
#[derive(Debug, Clone)]
pub struct Runtime {
    root: PathBuf,
}

impl Runtime {
    /// The runtime files in a folder, `/run/bento` in the container.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Runtime { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The target of the image's symlink `/etc/passwd`.
    pub fn passwd(&self) -> PathBuf {
        self.root.join("passwd")
    }

    /// The target of the image's symlink `/etc/group`.
    pub fn group(&self) -> PathBuf {
        self.root.join("group")
    }

    /// The target of the image's symlink `/etc/shadow`.
    pub fn shadow(&self) -> PathBuf {
        self.root.join("shadow")
    }

    /// The folder of authorized keys, one file for each machine.
    pub fn authorized_keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// sshd's configuration.
    pub fn sshd_config(&self) -> PathBuf {
        self.root.join("sshd_config")
    }

    /// The current problems, as JSON: a list of [`crate::problem::Problem`]. The file is here because it must be
    /// writable even if the state isn't, and means nothing once the appliance has stopped.
    pub fn problems(&self) -> PathBuf {
        self.root.join("problems.json")
    }

    /// The appliance's own counters, as JSON ([`crate::metrics::counters::CounterValues`]); gone once it has stopped.
    pub fn activity(&self) -> PathBuf {
        self.root.join("activity.json")
    }

    /// The lock of the state: shared for a change, exclusive for a copy.
    pub fn changes(&self) -> PathBuf {
        self.root.join("changes.lock")
    }

    /// The lock that is held while taking [`Self::changes`], so that a waiting copy isn't starved.
    pub fn door(&self) -> PathBuf {
        self.root.join("door.lock")
    }

    /// Exists once the first publication is done.
    pub fn ready(&self) -> PathBuf {
        self.root.join("ready")
    }
}
