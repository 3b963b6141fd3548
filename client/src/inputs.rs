//! Moves on what a configuration is built from: the lock file of a flake, or root's channels.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use bento_protocol::Digest;
use jiff::Timestamp;

use crate::build::{self, BuildError, Source};
use crate::durable;
use crate::partial;
use crate::settings::Settings;
use crate::state::State;
use crate::tail::Tail;

/// A configuration whose inputs are as new as they get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The folder to build.
    pub(crate) config: PathBuf,
    /// Which inputs these are.
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

/// Which inputs a configuration has now: two marks differ when something moved. Of a flake it is the digest of its
/// lock file, of any other that of the place in the store to which root's channels lead; without them, of nothing.
pub(crate) fn mark_of(config: &Path) -> anyhow::Result<Digest> {
    let mark = if build::is_flake(config) {
        durable::read_if_there(&config.join(LOCK_FILE))?.unwrap_or_default()
    } else {
        let profile = channels_profile(std::env::var_os("NIX_STATE_DIR"));
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
    source: &Source<'_>,
    state: &State,
    settings: &Settings,
    tail: &mut Tail,
    line: &mut dyn FnMut(&str),
) -> Result<Moved, BuildError> {
    let config = if build::is_flake(source.config) {
        let working = state.working_copy();
        make_working_copy(source.config, &working)
            .with_context(|| format!("can't make the working copy {}", working.display()))?;
        let version = build::nix_version();
        let update = update_of_flake(version.as_deref(), &working);
        build::run(with_options(update, source, settings), tail, line)?;
        settle(&working).with_context(|| format!("can't finish {}", working.display()))?;
        working
    } else {
        // Without channels an update would replace whatever profile there is by an empty one.
        if has_channels()? {
            let mut update = Command::new("nix-channel");
            // Otherwise an answer of the last hour would do.
            update.args(["--update", "--option", "tarball-ttl", "0"]);
            build::run(with_options(update, source, settings), tail, line)?;
            build::run(without_old_channels(), tail, line)?;
        }
        source.config.to_owned()
    };
    let mark = mark_of(&config)?;
    Ok(Moved { config, mark })
}

/// How many versions of root's channels stay: each is a root of Nix' garbage collector.
const KEPT_CHANNELS: &str = "+5";
const LOCK_FILE: &str = "flake.lock";

fn without_old_channels() -> Command {
    let mut command = Command::new("nix-env");
    command
        .arg("-p")
        .arg(channels_profile(std::env::var_os("NIX_STATE_DIR")))
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

fn update_of_flake(version: Option<&str>, folder: &Path) -> Command {
    let mut command = build::flake_command(&["flake", "update"]);
    if takes_flake_option(version) {
        command.arg("--flake");
    }
    // The folder's name needs no escaping: State holds only plain paths.
    command.arg(format!("path:{}", folder.display()));
    command
}

/// Whether `nix flake update` takes the flake after `--flake`: since 2.19, and in every Lix, whose numbers begin
/// with 2.90. Before, it was the first argument, which is the name of an input since then.
fn takes_flake_option(version: Option<&str>) -> bool {
    let parse = || {
        let mut parts = version?.split('.').map(|part| {
            let end = part
                .find(|character: char| !character.is_ascii_digit())
                .unwrap_or(part.len());
            part[..end].parse::<u32>().ok()
        });
        Some((parts.next()??, parts.next()??))
    };
    // One whose version isn't understood is likely newer than this.
    parse().is_none_or(|version| version >= (2, 19))
}

/// The netrc, and what the build's own arguments say about Nix's settings, such as access tokens. Arguments of other
/// kinds are for builds alone.
fn with_options(mut command: Command, source: &Source<'_>, settings: &Settings) -> Command {
    source.hand_over_netrc(&mut command);
    for arguments in [&source.policy.terms().nix_args, &settings.nix_args] {
        let mut arguments = arguments.as_slice();
        while let Some((first, rest)) = arguments.split_first() {
            arguments = rest;
            if let ("--option", [name, value, rest @ ..]) = (first.as_str(), rest) {
                command.args(["--option", name, value]);
                arguments = rest;
            }
        }
    }
    command
}

/// Copies a flake, by links but for the lock file: that one Nix writes to.
fn make_working_copy(config: &Path, working: &Path) -> anyhow::Result<()> {
    durable::remove_folder_if_there(working)?;
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
    partial::settle(to, FOLDER_MODE)?;
    Ok(())
}

/// Gives what was changed the permissions and the time that a published folder has: Nix sees both.
fn settle(working: &Path) -> anyhow::Result<()> {
    let lock_file = working.join(LOCK_FILE);
    if lock_file.exists() {
        partial::settle(&lock_file, LOCK_FILE_MODE)?;
    }
    partial::settle(working, FOLDER_MODE)?;
    Ok(())
}

/// As in a published generation.
const FOLDER_MODE: u32 = 0o755;
const LOCK_FILE_MODE: u32 = 0o644;

#[cfg(test)]
mod tests;
