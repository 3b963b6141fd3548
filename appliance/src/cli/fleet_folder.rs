use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::fleet::{FILE_NAME, decode};
use crate::legacy::server_folder::refuse_legacy_folder;

/// Where the appliance finds the fleet folder in its container.
const MOUNTED: &str = "/config";

/// Where the fleet folder is.
#[derive(Debug, clap::Args)]
pub struct FleetFolderOption {
    /// The fleet folder: the one that holds fleet.toml
    #[arg(long, value_name = "DIR", env = "BENTO_DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) fleet: Option<PathBuf>,
}

impl FleetFolderOption {
    /// What holds where no command line says anything.
    pub(super) fn of_environment() -> Self {
        FleetFolderOption {
            fleet: bento_nix::variable("BENTO_DIR").map(PathBuf::from),
        }
    }

    /// The folder that was named, or the one in which somebody stands, or above that; in the container, /config.
    ///
    /// # Errors
    /// When there is no `fleet.toml`, or one that was only come across belongs to somebody else.
    pub fn find(&self) -> anyhow::Result<PathBuf> {
        // An empty variable is one that isn't set.
        if let Some(named) = self
            .fleet
            .as_ref()
            .filter(|named| !named.as_os_str().is_empty())
        {
            if !named.join(FILE_NAME).is_file() {
                refuse_legacy_folder(named)?;
                refuse_flake(named)?;
                bail!(
                    "{} holds no {FILE_NAME}: name a fleet folder, or make one with `bento init`",
                    named.display()
                );
            }
            return Ok(named.clone());
        }
        let here = std::env::current_dir().context("the current folder can't be found")?;
        let places = || here.ancestors().chain([Path::new(MOUNTED)]);
        let Some(found) = places().find(|folder| folder.join(FILE_NAME).is_file()) else {
            places().try_for_each(refuse_legacy_folder)?;
            places().try_for_each(refuse_flake)?;
            bail!(
                "there is no {FILE_NAME} in {} or above it: go to the fleet folder, name it with --fleet, or make one \
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

/// Refuses a folder with a flake, which may be that of all machines.
fn refuse_flake(folder: &Path) -> anyhow::Result<()> {
    if is_unmanaged_flake(folder) {
        bail!("{}", flake_advice(folder));
    }
    Ok(())
}

/// Whether a folder has a flake at its top and isn't a fleet yet.
pub(super) fn is_unmanaged_flake(folder: &Path) -> bool {
    folder.join("flake.nix").is_file() && !folder.join(FILE_NAME).exists()
}

/// What to do with a folder that is a flake and no fleet. No command names the folder, which may mean something else to
/// the shell where that is pasted.
pub(super) fn flake_advice(folder: &Path) -> String {
    format!(
        "{} holds a flake and no {FILE_NAME}: `bento init --existing`, in that folder, writes one for its machines",
        folder.display()
    )
}

/// Refuses settings that somebody else may have put there, in /tmp for instance, since they name commands that would
/// run as whoever stands below. The same rule as git's `safe.directory`, and as there, `sudo` is allowed to see what
/// belongs to the user who called it.
fn require_owner(folder: &Path, trusted: &[u32]) -> anyhow::Result<()> {
    let file = folder.join(FILE_NAME);
    // A symlink, too: who put it there, in a folder such as /tmp, has chosen what else lies beside it.
    let founds = [
        (folder, fs::metadata(folder)),
        (&file, fs::symlink_metadata(&file)),
        (&file, fs::metadata(&file)),
    ];
    for (path, found) in founds {
        let found = found.with_context(|| format!("{} can't be looked at", path.display()))?;
        if !trusted.contains(&found.uid()) {
            bail!(
                "{} belongs to another user ({}), whose commands would run as you: if that is your fleet, name it with \
                 --fleet or BENTO_DIR",
                path.display(),
                found.uid()
            );
        }
    }
    Ok(())
}

/// Root, whoever runs this, and who called `sudo`.
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
    text.with_context(|| format!("{} can't be read", path.display()))
}

/// Why a file of the fleet folder can't be written, with what to do where it is a container that can't.
pub(super) fn unwritable(path: &Path, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            ": the appliance's container only reads the fleet folder. Run this where you edit it, or as \
             `podman run --rm --volume ~/fleet:/config localhost/bento …`"
        }
        _ => "",
    };
    anyhow::Error::new(error).context(format!("{} can't be written{advice}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 41.
    #[test]
    fn an_empty_name_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), "").unwrap();
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            folder: FleetFolderOption,
        }
        let empty = <Line as clap::Parser>::try_parse_from(["x", "--fleet", ""]).unwrap();
        let error = empty.folder.find().unwrap_err().to_string();
        assert!(!error.starts_with(" holds"), "it isn't looked for: {error}");
    }

    #[test]
    fn settings_that_were_come_across_are_ones_own_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), "").unwrap();
        let own = fs::metadata(folder.path()).unwrap().uid();
        require_owner(folder.path(), &[own]).unwrap();
        let refused = require_owner(folder.path(), &[own + 1]).unwrap_err();
        let told = format!(
            "{} belongs to another user ({own})",
            folder.path().display()
        );
        assert!(refused.to_string().starts_with(&told), "{refused}");
    }

    #[test]
    fn a_symlink_that_somebody_else_made_is_refused_wherever_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let mine = tempfile::NamedTempFile::new().unwrap();
        let link = folder.path().join(FILE_NAME);
        std::os::unix::fs::symlink(mine.path(), &link).unwrap();
        require_owner(folder.path(), &[0]).unwrap();
        std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
        assert!(require_owner(folder.path(), &[0]).is_err());
    }
}
