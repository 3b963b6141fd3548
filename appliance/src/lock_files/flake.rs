use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, bail, ensure};
use bento_nix::{LOCK_FILE, Tail, add_options, flake_command, reference, update_lock};
use bento_protocol::{Area, HostName};

use super::{Lock, LockOutcome, LockUpdater, named};
use crate::fleet::Host;
use crate::preview::HostPreview;
use crate::scan::FleetFolder;
use crate::store::atomic_file;

/// A flake of the fleet.
#[derive(Debug)]
pub struct Flake<'a> {
    /// The machines that share it: never empty.
    hosts: Vec<&'a HostName>,
    /// The preview of the first of them.
    host_preview: &'a HostPreview,
    /// The real path of its lock file, existing or not, relative to the fleet folder.
    lock: PathBuf,
    /// Whether the lock file is published.
    is_published: bool,
    /// The real path of its flake.nix.
    file: Option<PathBuf>,
    /// Whether another flake.nix has the same lock file.
    has_conflict: bool,
    /// Its inputs, if they were read.
    inputs: Option<Result<Lock, String>>,
}

impl<'a> Flake<'a> {
    /// The flake of a machine.
    pub(super) fn of(
        name: &'a HostName,
        host: &Host,
        host_preview: &'a HostPreview,
        folder: &FleetFolder,
    ) -> Self {
        let find = |name: &str| host_preview.tree.config_file(name);
        let published = find(LOCK_FILE);
        let source = host.source.as_path();
        let lock = match published {
            Some(file) => file.real.clone(),
            // Two sources may be links to the same folder.
            None => folder
                .find(source)
                .map_or_else(|_| source.to_owned(), |found| found.real)
                .join(LOCK_FILE),
        };
        Flake {
            hosts: vec![name],
            host_preview,
            lock,
            is_published: published.is_some(),
            file: find("flake.nix").map(|file| file.real.clone()),
            has_conflict: false,
            inputs: None,
        }
    }

    pub(super) fn add_host(&mut self, name: &'a HostName) {
        self.hosts.push(name);
    }

    /// Whether both are the same flake.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.lock == other.lock && self.file == other.file
    }

    /// Marks two flakes with the same lock file: each would drop the other's pins.
    pub(super) fn mark_conflict(&mut self, other: &mut Self) {
        let is_conflict = self.lock == other.lock;
        self.has_conflict |= is_conflict;
        other.has_conflict |= is_conflict;
    }

    pub(super) fn inputs(&self) -> Option<&Result<Lock, String>> {
        self.inputs.as_ref()
    }

    /// Its folder and its machines.
    pub fn title(&self) -> String {
        let folder = self.lock.parent().unwrap_or(Path::new(""));
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        format!("{} ({})", folder.display(), named(&self.hosts))
    }

    /// Reads its inputs from Nix, pinned or not.
    pub(super) fn read_inputs(&mut self, updater: &LockUpdater<'_>) {
        let find = || {
            let config = self.config(updater)?;
            let mut command = flake_command(&["flake", "metadata", "--json"]);
            command.arg(reference(&config)).arg("--no-write-lock-file");
            let said = self.run_nix(updater, command)?;
            #[derive(serde::Deserialize)]
            struct Metadata {
                locks: Lock,
            }
            // Warnings go to stderr.
            let json = said.lines().find(|line| line.starts_with('{'));
            let metadata: Metadata = serde_json::from_str(json.unwrap_or_default())
                .context("can't parse the metadata that Nix printed")?;
            anyhow::Ok(metadata.locks)
        };
        self.inputs = Some(find().map_err(|error| format!("{error:#}")));
    }

    /// Updates these inputs in its lock file, or all if none is named.
    ///
    /// # Errors
    /// When Nix fails, or the lock file can't be read or written.
    pub fn update(
        &self,
        inputs: &[String],
        updater: &LockUpdater<'_>,
    ) -> anyhow::Result<LockOutcome> {
        if self.has_conflict {
            bail!(
                "another flake.nix uses the same lock file {}, and each would drop the other's pins: give each flake.nix its \
                 own lock file",
                self.lock.display()
            );
        }
        let affected: Vec<String> = match &self.inputs {
            Some(Err(error)) => return Err(anyhow!("{error}")),
            Some(Ok(lock)) => {
                let has = |input: &&String| lock.has(input);
                inputs.iter().filter(has).cloned().collect()
            }
            None => Vec::new(),
        };
        if !inputs.is_empty() && affected.is_empty() {
            return Ok(LockOutcome::NotAffected);
        }
        let place = updater.path.join(&self.lock);
        ensure!(
            self.is_published || !place.exists(),
            "{} isn't published, because .gitignore, .bentoignore or `exclude` names it",
            place.display()
        );
        let lock_file = self.config(updater)?.join(LOCK_FILE);
        let before = read(&lock_file)?;
        let config = self.config(updater)?;
        self.run_nix(
            updater,
            update_lock(updater.nix.as_ref(), &config, &affected),
        )?;
        let after = read(&lock_file)?;
        let (Some(after), false) = (&after, after == before) else {
            return Ok(LockOutcome::Unchanged);
        };
        let understood = |text: &str| {
            Lock::parse(text).with_context(|| format!("can't parse {}", place.display()))
        };
        let old = before.as_deref().map_or(Ok(Lock::empty()), understood)?;
        let moves = old.moves(&understood(after)?);
        ensure!(
            read(&place)? == before,
            "{} changed during the update: try again",
            place.display()
        );
        replace(&place, after.as_bytes())
            .with_context(|| format!("can't write {}", place.display()))?;
        Ok(LockOutcome::Moved(
            moves.iter().map(ToString::to_string).collect(),
        ))
    }

    /// The folder with its files for Nix; written at the first call.
    fn config(&self, updater: &LockUpdater<'_>) -> anyhow::Result<PathBuf> {
        let name = format!("flake-of-{}", self.hosts[0]);
        let config = updater.build_folder.path(&name).join(Area::Config.folder());
        if config.exists() {
            return Ok(config);
        }
        updater
            .build_folder
            .write_tree(&name, updater.folder, &self.host_preview.tree)
    }

    /// Runs Nix, and returns its output.
    fn run_nix(&self, updater: &LockUpdater<'_>, mut command: Command) -> anyhow::Result<String> {
        let terms = self.host_preview.manifest.policy().terms();
        add_options(&mut command, None, &[terms.nix_args.as_slice()]);
        let mut said = Tail::default();
        let status = updater
            .interruption
            .run(command, &mut |line| said.push(line))?;
        ensure!(!updater.is_interrupted(), "interrupted");
        match bento_nix::failure("nix flake", status, &said) {
            None => Ok(said.text()),
            Some(failed) => Err(failed),
        }
    }
}

/// The text of a lock file, if it exists.
fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

/// Replaces a file atomically, and keeps its permissions and owner.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // The name of an editor's swap file, which is never published.
    let aside = path.with_file_name(format!(".{LOCK_FILE}.bento.swp"));
    let before = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(content)?;
        if let Some(before) = &before {
            file.set_permissions(before.permissions())?;
            if file.metadata()?.uid() != before.uid() {
                // With sudo, the file keeps its owner.
                chown(&aside, Some(before.uid()), Some(before.gid()))?;
            }
        }
        file.sync_all()?;
        atomic_file::rename(&aside, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
}
