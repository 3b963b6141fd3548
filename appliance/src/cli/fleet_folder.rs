use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::fleet::{FILE_NAME, decode};
use crate::legacy::server_folder::refuse_legacy_folder;

/// The fleet folder in the appliance's container.
const MOUNTED: &str = "/config";

/// The option that names the fleet folder.
#[derive(Debug, clap::Args)]
pub struct FleetFolderOption {
    /// The fleet folder, which holds fleet.toml
    #[arg(long, value_name = "DIR", env = "BENTO_DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) fleet: Option<PathBuf>,
}

impl FleetFolderOption {
    /// The option as the environment sets it.
    pub(super) fn of_environment() -> Self {
        FleetFolderOption {
            fleet: bento_nix::variable("BENTO_DIR").map(PathBuf::from),
        }
    }

    /// Finds the fleet folder: the named one, or the current folder or one above it, or /config in the container.
    ///
    /// # Errors
    /// When there is no `fleet.toml`, or an unnamed one belongs to another user.
    pub fn find(&self) -> anyhow::Result<PathBuf> {
        // An empty variable counts as unset.
        if let Some(named) = self
            .fleet
            .as_ref()
            .filter(|named| !named.as_os_str().is_empty())
        {
            if !named.join(FILE_NAME).is_file() {
                refuse_legacy_folder(named)?;
                refuse_flake(named)?;
                bail!(
                    "there is no {FILE_NAME} in {}: name a fleet folder, or create one with `bento init`",
                    named.display()
                );
            }
            return Ok(named.clone());
        }
        let here = std::env::current_dir().context("can't find the current folder")?;
        let places = || here.ancestors().chain([Path::new(MOUNTED)]);
        let Some(found) = places().find(|folder| folder.join(FILE_NAME).is_file()) else {
            places().try_for_each(refuse_legacy_folder)?;
            places().try_for_each(refuse_flake)?;
            bail!(
                "there is no {FILE_NAME} in {} or above it: change to the fleet folder, name it with --fleet, or create one \
                 with `bento init`",
                here.display()
            );
        };
        if found != Path::new(MOUNTED) {
            require_owner(found, &trusted_users())?;
        }
        Ok(found.to_owned())
    }
}

/// Refuses a folder with a flake and no fleet: the flake may be that of all machines.
fn refuse_flake(folder: &Path) -> anyhow::Result<()> {
    if is_unmanaged_flake(folder) {
        bail!("{}", flake_advice(folder));
    }
    Ok(())
}

/// Whether a folder has a flake at its top, but no fleet.toml.
pub(super) fn is_unmanaged_flake(folder: &Path) -> bool {
    folder.join("flake.nix").is_file() && !folder.join(FILE_NAME).exists()
}

/// The advice for a folder with a flake and no fleet.toml. The command in it doesn't name the folder, because its path
/// may need quotes in a shell.
pub(super) fn flake_advice(folder: &Path) -> String {
    format!(
        "{} has a flake but no {FILE_NAME}: run `bento init --existing` in that folder to write one for its machines",
        folder.display()
    )
}

/// Refuses the settings of another user, for instance in /tmp, because they name commands that would run as the current
/// user. The same rule as git's `safe.directory`; as in git, `sudo` accepts files of the user who called it.
fn require_owner(folder: &Path, trusted: &[u32]) -> anyhow::Result<()> {
    let file = folder.join(FILE_NAME);
    // Also the symlink itself: in a folder such as /tmp, its owner chose the files beside it.
    let founds = [
        (folder, fs::metadata(folder)),
        (&file, fs::symlink_metadata(&file)),
        (&file, fs::metadata(&file)),
    ];
    for (path, found) in founds {
        let found = found.with_context(|| format!("can't read the owner of {}", path.display()))?;
        if !trusted.contains(&found.uid()) {
            bail!(
                "{} belongs to another user ({}), and its commands would run as you: if you trust this fleet, name it with \
                 --fleet or BENTO_DIR",
                path.display(),
                found.uid()
            );
        }
    }
    Ok(())
}

/// Root, the current user, and the caller of `sudo`.
fn trusted_users() -> Vec<u32> {
    let own = rustix::process::geteuid();
    let mut users = vec![0, own.as_raw()];
    if own.is_root() {
        let caller = std::env::var("SUDO_UID").ok();
        users.extend(caller.and_then(|caller| caller.parse::<u32>().ok()));
    }
    users
}

/// The text of a fleet's `fleet.toml`.
///
/// # Errors
/// When it can't be read.
pub(super) fn read_settings(fleet: &Path) -> anyhow::Result<String> {
    let path = fleet.join(FILE_NAME);
    let text = fs::read(&path).and_then(decode);
    text.with_context(|| format!("can't read {}", path.display()))
}

/// The error for a file of the fleet folder that can't be written, with advice for a container.
pub(super) fn unwritable(path: &Path, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            ": the appliance's container mounts the fleet folder read-only. Run this where you edit the fleet, or with \
             `podman run --rm --volume ~/fleet:/config localhost/bento …`"
        }
        _ => "",
    };
    anyhow::Error::new(error).context(format!("can't write {}{advice}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 41.
    #[test]
    fn an_empty_name_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), "").unwrap();
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            folder: FleetFolderOption,
        }
        let empty = <Line as clap::Parser>::try_parse_from(["x", "--fleet", ""]).unwrap();
        let error = empty.folder.find().unwrap_err().to_string();
        assert!(!error.contains(" in :"), "the empty name is used: {error}");
    }

    #[test]
    fn unnamed_settings_of_another_user_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), "").unwrap();
        let own = fs::metadata(folder.path()).unwrap().uid();
        require_owner(folder.path(), &[own]).unwrap();
        let refused = require_owner(folder.path(), &[own + 1]).unwrap_err();
        let expected = format!(
            "{} belongs to another user ({own})",
            folder.path().display()
        );
        assert!(refused.to_string().starts_with(&expected), "{refused}");
    }

    #[test]
    fn a_symlink_of_another_user_is_refused_wherever_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let mine = tempfile::NamedTempFile::new().unwrap();
        let link = folder.path().join(FILE_NAME);
        std::os::unix::fs::symlink(mine.path(), &link).unwrap();
        require_owner(folder.path(), &[0]).unwrap();
        std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
        assert!(require_owner(folder.path(), &[0]).is_err());
    }
}
