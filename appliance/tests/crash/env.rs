//! The environment of a crashing appliance: namespaces with `/etc` and `/run` as bare as in the container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bento_appliance::store::paths::Runtime;
use bento_tests::process::Output;
use bento_tests::unshare;

use crate::disk::Disk;

/// The mount point of a file system in memory.
const ROOT: &str = "/mnt";
const RUNTIME: &str = "run/bento";

/// An empty place for appliances, one at a time.
pub struct CrashEnv {
    /// Not in memory, which a state must not be.
    disk: Disk,
}

impl CrashEnv {
    /// Runs a test there.
    pub fn inside<F: FnOnce(&CrashEnv)>(body: F) {
        // A network of its own, so that the port is free.
        unshare::inside::<F>(&["--net"], || body(&CrashEnv::prepare()));
    }

    fn prepare() -> Self {
        let runtime = Runtime::new(path(RUNTIME));
        unshare::make_bare(Path::new(ROOT), runtime.root()).unwrap();
        Output::of(Command::new("ip").args(["link", "set", "lo", "up"])).with(0);
        // ssh-keygen wants to know who it is.
        bento_appliance::sshd::passwd::write(&runtime, &[]).unwrap();
        CrashEnv {
            disk: Disk::make(&path("disk"), &path("states")),
        }
    }

    /// A place for anything.
    pub fn path(&self, name: &str) -> PathBuf {
        path(name)
    }

    /// The runtime folder of an appliance.
    pub fn runtime(&self) -> Runtime {
        Runtime::new(path(RUNTIME))
    }

    /// A state of this name.
    pub fn state(&self, name: &str) -> PathBuf {
        self.disk.mounted.join(name)
    }

    /// A copy of a state, with its hard links, owners, modes and times.
    pub fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.state(name);
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        Output::of(Command::new("cp").arg("-a").args([from, &to])).with(0);
        to
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}
