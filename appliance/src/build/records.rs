//! What is kept of a build in the fleet folder, beside the records that the appliance reads.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bento_protocol::{Format, HostName, Manifest, SystemPath};
use jiff::Timestamp;

use super::interruption::Interruption;
use crate::release::{self, Build, FOLDER, Record};
use crate::scan::FleetFolder;
use crate::store::atomic_file;

/// What lies in [`FOLDER`] and is of no use elsewhere.
const IGNORED: &str = "# Made by bento build: links into the Nix store of this machine, and what Nix said of builds that \
                       failed.\n# The other files here belong to the fleet: commit them.\n/systems/\n/logs/\n";

/// Where builds are recorded.
#[derive(Debug)]
pub(super) struct Records<'a> {
    /// The fleet folder.
    pub(super) path: &'a Path,
    /// The same, held open.
    pub(super) folder: &'a FleetFolder,
}

impl Records<'_> {
    /// Records what came out of a machine's generation, and keeps it from being collected as garbage.
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
        // That the same came out again is no news for a git checkout.
        if before.as_ref().is_some_and(says_the_same) {
            return Ok(());
        }
        build.write(self.path, host).with_context(|| self.failed())
    }

    /// Takes back what is recorded of a machine's generation: its build has failed.
    pub(super) fn remove(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let host = manifest.host();
        let before = Build::of(self.folder, host).ok().flatten();
        if before.is_none_or(|before| before.generation != manifest.generation()) {
            return Ok(());
        }
        atomic_file::remove(&self.path.join(release::path::<Build>(host)))
            .with_context(|| self.failed())
    }

    /// Keeps what Nix said of a machine's build; gives the place.
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

    /// Links the system, and tells Nix of the link.
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
            .with_context(|| format!("can't make {}", link.display()))?;
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

    /// Lets git leave out what is of use on this machine alone.
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
