//! The records of builds in the fleet folder: results for the appliance, and links and logs for this machine.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bento_protocol::{Format, HostName, Manifest, SystemPath};
use jiff::Timestamp;

use super::interruption::Interruption;
use crate::release::{self, Build, FOLDER, FolderRecord};
use crate::scan::FleetFolder;
use crate::store::atomic_file;

/// The .gitignore of [`FOLDER`]: links and logs are of no use on another machine.
const IGNORED: &str = "# Written by bento build: links into the Nix store of this machine, and logs of failed builds.\n# \
                       Commit the other files here; they belong to the fleet.\n/systems/\n/logs/\n";

/// The records of a fleet folder.
#[derive(Debug)]
pub(super) struct Records<'a> {
    /// The fleet folder.
    pub(super) path: &'a Path,
    /// The same, held open.
    pub(super) folder: &'a FleetFolder,
}

impl Records<'_> {
    /// Records the system of a machine's generation, and protects it from garbage collection.
    pub(super) fn record(
        &self,
        manifest: &Manifest,
        system: &SystemPath,
        comparable: bool,
        interruption: &Interruption,
    ) -> anyhow::Result<()> {
        let host = manifest.host();
        self.write_gitignore()
            .and_then(|()| atomic_file::remove(&self.log(host)))
            .with_context(|| self.failed())?;
        self.link(host, system, interruption)?;
        let build = Build {
            format: Format,
            generation: manifest.generation(),
            system: system.clone(),
            comparable,
            at: Timestamp::now(),
        };
        let says_the_same = |before: &Build| {
            Build {
                at: build.at,
                ..before.clone()
            } == build
        };
        let before = Build::of(self.folder, host).ok().flatten();
        // The same result again must not change a git checkout.
        if before.as_ref().is_some_and(says_the_same) {
            return Ok(());
        }
        build.write(self.path, host).with_context(|| self.failed())
    }

    /// Removes the record of a machine's generation, after its build failed.
    pub(super) fn remove(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let host = manifest.host();
        let before = Build::of(self.folder, host).ok().flatten();
        if before.is_none_or(|before| before.generation != manifest.generation()) {
            return Ok(());
        }
        atomic_file::remove(&self.path.join(release::path::<Build>(host)))
            .with_context(|| self.failed())
    }

    /// Keeps the log of a machine's build; returns its path.
    pub(super) fn keep_log(&self, host: &HostName, log: &Path) -> io::Result<PathBuf> {
        self.write_gitignore()?;
        let place = self.log(host);
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::copy(log, &place)?;
        Ok(place)
    }

    fn log(&self, host: &HostName) -> PathBuf {
        self.path.join(release::log(host))
    }

    /// Creates a link to the system, registered as a root of Nix' garbage collector.
    fn link(
        &self,
        host: &HostName,
        system: &SystemPath,
        interruption: &Interruption,
    ) -> anyhow::Result<()> {
        let link = self.path.join(release::system(host));
        let link = link
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| std::path::absolute(&link))
            .with_context(|| format!("can't create {}", link.display()))?;
        let mut command = Command::new("nix-store");
        command
            .args(["--realise", system.as_str(), "--indirect", "--add-root"])
            .arg(&link);
        let mut said = bento_nix::Tail::default();
        let status = interruption.run(command, &mut |line| said.push(line))?;
        if !status.success() {
            bail!(
                "can't link {} to {system}: {}",
                link.display(),
                said.text().trim_end()
            );
        }
        Ok(())
    }

    /// Excludes links and logs from git.
    fn write_gitignore(&self) -> io::Result<()> {
        let folder = self.path.join(FOLDER);
        fs::create_dir_all(&folder)?;
        match fs::File::create_new(folder.join(".gitignore")) {
            Ok(mut file) => io::Write::write_all(&mut file, IGNORED.as_bytes()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn failed(&self) -> String {
        format!(
            "can't record builds in {}",
            self.path.join(FOLDER).display()
        )
    }
}
