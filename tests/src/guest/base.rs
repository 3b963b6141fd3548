//! The tree from which guests are made: Debian with systemd and Nix, made once and kept.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::Uid;
use sha2::{Digest, Sha256};

use super::elevation::Elevation;
use crate::process;

const SUITE: &str = "trixie";
/// systemd and Nix make it a machine to update; git is for flakes, the two libraries are what
/// `bento-client` is linked with, strace halts it where a test says, libfaketime gives it another time,
/// and the rest is what anybody expects to find.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,nix-bin,git,openssh-client,ca-certificates,iproute2,libssl3t64,zlib1g,strace,libfaketime";
/// A quarter of the tree that nobody reads.
const WITHOUT: [&str; 3] = [
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
];
/// Nix as root, without a daemon and without a network.
const NIX_CONFIGURATION: &str = "\
build-users-group =
sandbox = false
substituters =
flake-registry =
experimental-features = nix-command flakes
";

/// The folder of the environment's lasting files: `$BENTO_TEST_CACHE`, or where the system keeps such.
///
/// # Errors
/// If there is no such variable, and this user's caches can't be found.
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("BENTO_TEST_CACHE") {
        return Ok(folder.into());
    }
    if Uid::effective().is_root() {
        return Ok("/var/cache/bento-tests".into());
    }
    let caches = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cache")))
        .context("neither BENTO_TEST_CACHE nor XDG_CACHE_HOME nor HOME is set")?;
    Ok(caches.join("bento-tests"))
}

/// The base tree: the one that `$BENTO_TEST_BASE` names, or Debian's; made first, in half a minute, if there is none of these packages yet.
///
/// # Errors
/// If mmdebstrap fails, e.g. because no Debian mirror can be reached.
pub fn base_tree() -> Result<PathBuf> {
    if let Some(tree) = env::var_os("BENTO_TEST_BASE") {
        return Ok(tree.into());
    }
    let elevation = Elevation::new()?;
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // The tree has setuid programs that nobody updates; they are for guests only.
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700))?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()
        .context("cannot lock the folder of base trees")?;
    let base = cache.join(format!("{SUITE}-{}", key()));
    if base.exists() {
        return Ok(base);
    }
    let partial = cache.join("partial");
    elevation.remove(&partial)?;
    make(&elevation, &partial)
        .with_context(|| format!("cannot make the base tree of guests in {}", cache.display()))?;
    fs::rename(&partial, &base)?;
    Ok(base)
}

fn make(elevation: &Elevation, folder: &Path) -> Result<()> {
    let mut mmdebstrap: Command = elevation.command("mmdebstrap");
    mmdebstrap
        .args(["--mode=root", "--variant=minbase", "--include", PACKAGES])
        .args(WITHOUT)
        .arg(SUITE)
        .arg(folder);
    process::run(&mut mmdebstrap, process::LONG)?.success()?;
    let nix = folder.join("etc/nix");
    fs::create_dir_all(&nix)?;
    fs::write(nix.join("nix.conf"), NIX_CONFIGURATION)?;
    Ok(())
}

/// Names what the tree is made of, so that another list of packages gets another tree.
fn key() -> String {
    let mut digest = Sha256::new();
    for part in [SUITE, PACKAGES, NIX_CONFIGURATION].iter().chain(&WITHOUT) {
        digest.update(part);
        digest.update([0]);
    }
    let bytes = digest.finalize();
    bytes[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
