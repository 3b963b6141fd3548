//! Everything that the appliance keeps: one struct holds every path there is in `/state` and `/run/bento`.

use std::path::{Path, PathBuf};

use bento_protocol::HostName;

/// The folder that persists: host keys, the last good fleet, generations and reports.
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

    /// Held by the one appliance that may use this state.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// sshd's private key; the public one lies beside it with `.pub`.
    pub fn host_key(&self) -> PathBuf {
        self.root.join("keys/ssh_host_ed25519_key")
    }

    /// The private key beside sshd's: the next one, or the last one, while one replaces the other.
    pub fn spare_host_key(&self) -> PathBuf {
        self.root.join("keys/spare_ssh_host_ed25519_key")
    }

    /// The last good fleet, as JSON.
    pub fn fleet(&self) -> PathBuf {
        self.root.join("fleet.json")
    }

    /// Who is enrolled, with which account, as JSON.
    pub fn accounts(&self) -> PathBuf {
        self.root.join("accounts.json")
    }

    /// Who was notified of what, as JSON ([`crate::notify::LastSentFile`]).
    pub fn notified(&self) -> PathBuf {
        self.root.join("notified.json")
    }

    /// The folder of all machines.
    pub fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    /// The folder of what is kept of machines that were removed.
    pub fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }

    /// What is kept of one machine that was removed: [`HostState::OUTLAST`].
    pub fn removed_host(&self, name: &HostName) -> HostState {
        HostState {
            root: self.removed().join(name.as_str()),
        }
    }

    /// What is kept for one machine.
    pub fn host(&self, name: &HostName) -> HostState {
        HostState {
            root: self.hosts().join(name.as_str()),
        }
    }
}

/// What is kept for one machine.
#[derive(Debug, Clone)]
pub struct HostState {
    root: PathBuf,
}

impl HostState {
    /// What outlasts the removal of a machine: what it reported, and when it was seen, but nothing that was published for
    /// it.
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

    /// What is published, and since when, as JSON ([`crate::publication::published::Published`]). It lies beside the chroot to
    /// which [`Self::current`] leads, so that both change in one step.
    pub fn published(&self) -> PathBuf {
        self.current().join("../published.json")
    }

    /// Manifests of the last few generations, from which deltas lead to the published one.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// What is kept of publications that aren't the published ones any more, by number, to be compared with later ones.
    /// No machine can reach it.
    pub fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// An empty file whose modification time is the last contact.
    pub fn seen(&self) -> PathBuf {
        self.root.join("seen")
    }

    /// The folder of reports that were taken in.
    pub fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }

    /// What status needs of the reports, as JSON.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }
}

/// What lives only as long as the container does.
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

    /// Where `/etc/passwd` of the image leads.
    pub fn passwd(&self) -> PathBuf {
        self.root.join("passwd")
    }

    /// Where `/etc/group` of the image leads.
    pub fn group(&self) -> PathBuf {
        self.root.join("group")
    }

    /// Where `/etc/shadow` of the image leads.
    pub fn shadow(&self) -> PathBuf {
        self.root.join("shadow")
    }

    /// One file of public keys a machine, named by it.
    pub fn authorized_keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// sshd's configuration.
    pub fn sshd_config(&self) -> PathBuf {
        self.root.join("sshd_config")
    }

    /// What is wrong at the moment, as JSON: a list of [`crate::problem::Problem`]. It lies here because it must be
    /// writable just when the state isn't, and means nothing once the appliance has stopped.
    pub fn problems(&self) -> PathBuf {
        self.root.join("problems.json")
    }

    /// What the appliance counts about itself, as JSON ([`crate::metrics::counters::CounterValues`]); gone once it has stopped.
    pub fn activity(&self) -> PathBuf {
        self.root.join("activity.json")
    }

    /// Held shared by whoever changes the state, and alone by whoever copies it.
    pub fn changes(&self) -> PathBuf {
        self.root.join("changes.lock")
    }

    /// Held for the moment in which somebody takes [`Self::changes`]; for as long as they wait by whoever wants it alone.
    pub fn door(&self) -> PathBuf {
        self.root.join("door.lock")
    }

    /// Exists once the first publication is done.
    pub fn ready(&self) -> PathBuf {
        self.root.join("ready")
    }
}
