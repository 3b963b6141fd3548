//! Approvals and builds: the records in `.bento/` of the fleet folder, written by `bento deploy` and `bento build`, and read
//! by the appliance.
//!
//! There is a file for each machine and kind, so that records of two administrators don't conflict in a git checkout. Each
//! has the id of a generation, and holds for exactly those files and settings.

mod gate;

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bento_protocol::{Format, GenerationId, HostName, SystemPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::scan::FleetFolder;
use crate::store::atomic_file;

pub use gate::{RecordError, Requirement, read, unmet};

/// The folder of all records, in the fleet folder. Nothing of it is ever published.
pub const FOLDER: &str = ".bento";

/// The longest record, in bytes.
const LIMIT: u64 = 64 << 10;

/// The approval of a generation: `.bento/approved/<name>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The version of this file.
    pub format: Format,
    /// The approved generation.
    pub generation: GenerationId,
    /// The time, by the administrator's clock.
    pub at: Timestamp,
}

/// The build of a generation: `.bento/built/<name>.json`. A failed build leaves none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The version of this file.
    pub format: Format,
    /// The built generation.
    pub generation: GenerationId,
    /// The system.
    pub system: SystemPath,
    /// Whether the machine must build the same system: a flake with its lock file in the generation, and no self-updates of
    /// the machine.
    pub comparable: bool,
    /// The time, by the administrator's clock.
    pub at: Timestamp,
}

/// The order to keep nothing of a removed machine: `.bento/forgotten/<name>.json`. It holds for a machine that was enrolled
/// earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The version of this file.
    pub format: Format,
    /// The time, by the administrator's clock.
    pub at: Timestamp,
}

/// A kind of record.
pub trait FolderRecord: Serialize + DeserializeOwned {
    /// Its folder in [`FOLDER`].
    const KIND: &'static str;
    /// The command that writes it.
    const COMMAND: &'static str;

    /// Reads the record of a machine, from a folder that may change meanwhile; none if there is none.
    ///
    /// # Errors
    /// When the file isn't such a record.
    fn of(fleet: &FleetFolder, host: &HostName) -> io::Result<Option<Self>> {
        match fleet.text(&path::<Self>(host), LIMIT, false) {
            Ok((text, _)) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the record of a machine, safe against a power loss. It is readable for all users of the fleet folder: it has
    /// no secret, and the appliance may run as another user.
    ///
    /// # Errors
    /// When it can't be written.
    fn write(&self, fleet: &Path, host: &HostName) -> io::Result<()> {
        let all = fleet.join(FOLDER);
        make_folder(&all)?;
        make_folder(&all.join(Self::KIND))?;
        let json = atomic_file::to_json(self)?;
        atomic_file::write_for_all(&fleet.join(path::<Self>(host)), &json)
    }
}

/// The path of the record of a machine, relative to the fleet folder.
pub fn path<T: FolderRecord>(host: &HostName) -> PathBuf {
    Path::new(FOLDER).join(T::KIND).join(format!("{host}.json"))
}

/// Removes the records of a machine that leaves the fleet, and the files of its builds.
///
/// # Errors
/// When a file can't be removed.
pub fn forget(fleet: &Path, host: &HostName) -> io::Result<()> {
    let records = [path::<Approval>(host), path::<Build>(host)];
    let left = [system(host), log(host)];
    let paths = records.iter().chain(&left).map(|path| fleet.join(path));
    paths
        .into_iter()
        .try_for_each(|path| atomic_file::remove(&path))
}

/// The link to the last built system of a machine, a root for Nix' garbage collector: relative to the fleet folder.
pub fn system(host: &HostName) -> PathBuf {
    Path::new(FOLDER).join("systems").join(host.as_str())
}

/// The log of a machine's failed build: relative to the fleet folder.
pub fn log(host: &HostName) -> PathBuf {
    Path::new(FOLDER).join("logs").join(format!("{host}.log"))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
            atomic_file::sync_folder_of(path)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

impl FolderRecord for Approval {
    const KIND: &'static str = "approved";
    const COMMAND: &'static str = "deploy";
}

impl FolderRecord for Forgotten {
    const KIND: &'static str = "forgotten";
    const COMMAND: &'static str = "host remove --forget";
}

impl FolderRecord for Build {
    const KIND: &'static str = "built";
    const COMMAND: &'static str = "build";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_again_and_nothing_else_counts_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let host: HostName = "kikimora".parse().unwrap();
        let fleet = FleetFolder::open(folder.path()).unwrap();
        assert_eq!(Approval::of(&fleet, &host).unwrap(), None);
        let approval = Approval {
            format: Format,
            generation: "a".repeat(64).parse().unwrap(),
            at: Timestamp::from_second(1_700_000_000).unwrap(),
        };
        approval.write(folder.path(), &host).unwrap();
        assert_eq!(Approval::of(&fleet, &host).unwrap(), Some(approval));
        assert_eq!(Build::of(&fleet, &host).unwrap(), None);
        fs::write(folder.path().join(path::<Approval>(&host)), "{}").unwrap();
        assert!(Approval::of(&fleet, &host).is_err());
    }
}
