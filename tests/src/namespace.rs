//! The private mount namespace for machines that lack what rootless podman needs.
//!
//! Every desktop and server distribution mounts cgroups v2 alone at /sys/fs/cgroup and lets users
//! open /dev/net/tun. A bare virtual machine may do neither, and then gets both in a mount namespace
//! of the environment's own, so that nothing changes for the rest of the machine.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, NSFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, Uid, access};

use crate::Podman;

const CGROUPS: &str = "/sys/fs/cgroup";
const TUN: &str = "/dev/net/tun";
/// One for the whole machine, because rootless podman's own namespaces hang on the one in which it
/// was first started.
const FOLDER: &str = "/run/bento-tests";

/// Run by `unshare` inside the new namespace. A tmpfs holds the node, because /run may be `nodev`.
/// `/` must be shared for podman's sake, and only from there on.
const PROVISION: &str = "
    case $1 in *cgroups*)
        umount --lazy --recursive /sys/fs/cgroup || true
        mount -t cgroup2 none /sys/fs/cgroup
    esac
    case $1 in *tun*)
        mkdir -p /dev/net
        mount -t tmpfs -o mode=0755 none /dev/net
        mknod -m 0666 /dev/net/tun c 10 200
    esac
    mount --make-rshared /
";

/// What rootless podman and a systemd guest need of a machine, and this one doesn't give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// cgroups v2 alone at /sys/fs/cgroup, as crun wants them.
    Cgroups,
    /// /dev/net/tun open to users, as slirp4netns wants it.
    Tun,
}

impl fmt::Display for Lack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cgroups => "cgroups v2 alone at /sys/fs/cgroup",
            Self::Tun => "/dev/net/tun open to users",
        })
    }
}

impl Lack {
    /// All that is lacking where this process stands.
    #[must_use]
    pub fn here() -> Vec<Self> {
        let mut lacks = Vec::new();
        if !is_of(Path::new(CGROUPS), CGROUP2_SUPER_MAGIC) {
            lacks.push(Self::Cgroups);
        }
        if !tun_is_open() {
            lacks.push(Self::Tun);
        }
        lacks
    }

    fn word(self) -> &'static str {
        match self {
            Self::Cgroups => "cgroups",
            Self::Tun => "tun",
        }
    }
}

/// Checks that this process stands where rootless podman can run.
///
/// # Errors
/// If it doesn't: what is lacking, and how to start it instead.
pub fn check() -> Result<()> {
    let lacks = Lack::here();
    if !lacks.is_empty() {
        bail!(
            "this machine lacks {}: start this through `env enter --`, as `make test` does",
            list(&lacks)
        );
    }
    Ok(())
}

/// Moves this process to where rootless podman can run: nowhere, on a machine that lacks nothing;
/// else into the machine's one private mount namespace, which is made if there is none.
///
/// The process must have one thread only; the kernel moves no other.
///
/// # Errors
/// If something is lacking and this isn't root, or the namespace can't be made or entered.
pub fn enter() -> Result<()> {
    let lacks = Lack::here();
    if lacks.is_empty() {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        bail!(
            "this machine lacks {}, and only root can supply that in a private mount namespace: run this as root",
            list(&lacks)
        );
    }
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
    let lock_path = Path::new(FOLDER).join("lock");
    let lock = File::create(&lock_path).context("cannot make the lock of the mount namespace")?;
    lock.lock().context("cannot lock the mount namespace")?;
    let handle = Path::new(FOLDER).join("mnt");
    if !is_of(&handle, NSFS_MAGIC) {
        make(&handle, &lacks).context("cannot make the private mount namespace")?;
    }
    join(&handle).context("cannot enter the private mount namespace")?;
    check().context("the private mount namespace doesn't give what it should")?;
    renew_podman(&handle)
}

/// Makes the namespace and binds it to `handle`, which keeps it when no process is in it.
fn make(handle: &Path, lacks: &[Lack]) -> Result<()> {
    // The kernel refuses to bind a mount namespace where mounts are shared with other namespaces.
    let folder = Path::new(FOLDER);
    if !is_mount_point(folder)? {
        mount(
            Some(folder),
            folder,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
    }
    mount(
        None::<&str>,
        folder,
        None::<&str>,
        MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    File::create(handle)?;
    let words: Vec<_> = lacks.iter().map(|lack| lack.word()).collect();
    let mut unshare = Command::new("unshare");
    unshare
        .arg(format!("--mount={}", handle.display()))
        // What is mounted on the machine later is seen here too; nothing goes the other way.
        .args(["--propagation", "slave", "sh", "-ec", PROVISION, "sh"])
        .arg(words.join(" "));
    // Not by `process::run`, whose threads would stand in the way of `setns`.
    let made = unshare.output().context("cannot run unshare")?;
    if !made.status.success() {
        // A namespace that is half furnished must not be found by the next run.
        umount2(handle, MntFlags::MNT_DETACH).ok();
        bail!("{}", String::from_utf8_lossy(&made.stderr).trim_end());
    }
    Ok(())
}

fn join(handle: &Path) -> Result<()> {
    // To change its mount namespace puts a process at the root folder.
    let folder = env::current_dir()?;
    setns(File::open(handle)?, CloneFlags::CLONE_NEWNS)?;
    env::set_current_dir(&folder)
        .with_context(|| format!("{} isn't in the namespace", folder.display()))
}

/// Rootless podman has a process that keeps the namespaces in which it was first started; it must
/// be ended once for each new mount namespace. Where it was killed together with its containers,
/// podman refuses every command until it was reset.
fn renew_podman(handle: &Path) -> Result<()> {
    let stamp = Path::new(FOLDER).join("podman");
    let namespace = fs::metadata(handle)?.ino().to_string();
    let podman = Podman::new()?;
    let is_of_this_namespace = fs::read_to_string(&stamp).is_ok_and(|known| known == namespace);
    if is_of_this_namespace && podman.run(["unshare", "true"]).is_ok() {
        return Ok(());
    }
    podman.run(["system", "migrate"])?;
    fs::write(&stamp, namespace).context("cannot note that podman was renewed")
}

fn list(lacks: &[Lack]) -> String {
    let names: Vec<_> = lacks.iter().map(ToString::to_string).collect();
    names.join(", and ")
}

fn is_of(path: &Path, kind: nix::sys::statfs::FsType) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == kind)
}

fn tun_is_open() -> bool {
    if Uid::effective().is_root() {
        // Root can open everything; what counts is the ordinary user that runs podman.
        fs::metadata(TUN).is_ok_and(|found| found.mode() & 0o006 == 0o006)
    } else {
        access(TUN, AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
    }
}

fn is_mount_point(folder: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| Path::new(point) == folder))
}
