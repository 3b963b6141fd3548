//! Moves on what a configuration is built from: the lock file of a flake, or root's channels.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use bento_nix::normal::{self, FOLDER_MODE};
use bento_nix::{LOCK_FILE, Tail};
use bento_protocol::Digest;
use jiff::Timestamp;

use crate::machine::build::BuildSource;
use crate::settings::Settings;
use crate::state::State;
use crate::state::atomic_file;

/// A configuration whose inputs are as new as they get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The folder to build.
    pub(crate) config: PathBuf,
    /// Digest of these inputs.
    pub(crate) mark: Digest,
}

/// Whether it is time to move the inputs on again. Zero: at every run.
pub(crate) fn is_due(every: Duration, last: Option<Timestamp>, now: Timestamp) -> bool {
    let Some(last) = last else {
        return true;
    };
    match Duration::try_from(now.duration_since(last)) {
        Ok(since) => since >= every,
        // The last time lies ahead of now: the clock was set back, and what it was then means nothing.
        Err(_) => true,
    }
}

/// Digest of the inputs that a configuration has now: two differ when something moved. Of a flake it is the digest of its
/// lock file, of any other that of the place in the store to which root's channels lead; without them, of nothing.
pub(crate) fn mark_of(config: &Path) -> anyhow::Result<Digest> {
    let mark = if bento_nix::is_flake(config) {
        atomic_file::read_if_there(&config.join(LOCK_FILE))?.unwrap_or_default()
    } else {
        let profile = channels_profile(bento_nix::variable("NIX_STATE_DIR"));
        match fs::canonicalize(&profile) {
            Ok(channels) => channels.as_os_str().as_bytes().to_vec(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("can't see where {} leads", profile.display()));
            }
        }
    };
    Ok(Digest::of(mark))
}

/// Moves the inputs of a configuration on as far as they go. A flake's are moved in a working copy of it, so that
/// the published one stays as it is; channels are root's own. That nothing moved is no error: the mark is the same.
pub(crate) fn move_on(
    source: &BuildSource<'_>,
    state: &State,
    settings: &Settings,
    tail: &mut Tail,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<Moved> {
    let limit = settings.timeouts.build.duration();
    let config = if bento_nix::is_flake(source.config) {
        let working = state.working_copy();
        make_working_copy(source.config, &working)
            .with_context(|| format!("can't make the working copy {}", working.display()))?;
        let update = bento_nix::update_lock(bento_nix::version().as_ref(), &working, &[]);
        bento_nix::run(with_options(update, source, settings), limit, tail, line)?;
        normalise(&working).with_context(|| format!("can't finish {}", working.display()))?;
        working
    } else {
        // Without channels an update would replace whatever profile there is by an empty one.
        if has_channels()? {
            let mut update = Command::new("nix-channel");
            // Otherwise an answer of the last hour would do.
            update.args(["--update", "--option", "tarball-ttl", "0"]);
            bento_nix::run(with_options(update, source, settings), limit, tail, line)?;
            bento_nix::run(without_old_channels(), limit, tail, line)?;
        }
        source.config.to_owned()
    };
    let mark = mark_of(&config)?;
    Ok(Moved { config, mark })
}

/// Number of versions of root's channels that stay: each is a root of Nix' garbage collector.
const KEPT_CHANNELS: &str = "+5";

fn without_old_channels() -> Command {
    let mut command = Command::new("nix-env");
    command
        .arg("-p")
        .arg(channels_profile(bento_nix::variable("NIX_STATE_DIR")))
        .args(["--delete-generations", KEPT_CHANNELS]);
    command
}

/// Root's channels, in Nix's state folder if it was moved elsewhere.
fn channels_profile(state_folder: Option<OsString>) -> PathBuf {
    let state_folder = state_folder.map_or_else(|| "/nix/var/nix".into(), PathBuf::from);
    state_folder.join("profiles/per-user/root/channels")
}

fn has_channels() -> anyhow::Result<bool> {
    let output = Command::new("nix-channel")
        .arg("--list")
        .output()
        .context("can't run nix-channel: is it installed, and in PATH?")?;
    ensure!(
        output.status.success(),
        "nix-channel --list ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(!output.stdout.trim_ascii().is_empty())
}

/// Adds the build's options for Nix to a command.
fn with_options(mut command: Command, source: &BuildSource<'_>, settings: &Settings) -> Command {
    let arguments = [&source.policy.terms().nix_args, &settings.nix_args];
    let arguments = arguments.map(|arguments| arguments.as_slice());
    bento_nix::add_options(&mut command, source.netrc.as_deref(), &arguments);
    command
}

/// Copies a flake, by links but for the lock file: that one Nix writes to.
fn make_working_copy(config: &Path, working: &Path) -> anyhow::Result<()> {
    atomic_file::remove_folder_if_there(working)?;
    link_folder(config, working)?;
    let lock_file = working.join(LOCK_FILE);
    if lock_file.exists() {
        fs::remove_file(&lock_file)?;
        fs::copy(config.join(LOCK_FILE), &lock_file)?;
    }
    Ok(())
}

fn link_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_folder(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), &target)?;
        }
    }
    normal::normalize(to, FOLDER_MODE)?;
    Ok(())
}

/// Gives what was changed the permissions and the time that a published folder has: Nix sees both.
fn normalise(working: &Path) -> anyhow::Result<()> {
    let lock_file = working.join(LOCK_FILE);
    if lock_file.exists() {
        normal::normalize(&lock_file, normal::file_mode(false))?;
    }
    normal::normalize(working, FOLDER_MODE)?;
    Ok(())
}

#[cfg(test)]
mod tests;
