use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::tests::{SmallDisk, mount_small_disk};
use super::*;
use crate::settings::Settings;

/// A machine on a disk of 64 MiB, with a Nix of its own.
struct StoreEnv {
    _disk: SmallDisk,
    folder: TempDir,
}

impl StoreEnv {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = StoreEnv {
            _disk: mount_small_disk(folder.path(), 64),
            folder,
        };
        for made in ["conf", "home", "run"] {
            fs::create_dir(env.path(made)).unwrap();
        }
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\n";
        fs::write(env.path("conf/nix.conf"), conf).unwrap();
        env
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn nix(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", self.path("home"))
            .env("NIX_STORE_DIR", self.path("nix/store"))
            .env("NIX_STATE_DIR", self.path("nix/var/nix"))
            .env("NIX_LOG_DIR", self.path("log"))
            .env("NIX_CONF_DIR", self.path("conf"))
            .env_remove("NIX_REMOTE");
        command
    }

    fn nix_env(&self) -> Command {
        let mut command = self.nix("nix-env");
        command.arg("-p").arg(self.machine().profile());
        command
    }

    fn machine(&self) -> Machine {
        Machine::new(self.folder.path())
    }

    /// Makes a system of 5 MiB the newest of the profile.
    fn install(&self, number: usize) -> PathBuf {
        let folder = self.path(&format!("system{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("data"), vec![number as u8; 5 << 20]).unwrap();
        let added = self.nix("nix-store").arg("--add").arg(&folder).output();
        fs::remove_dir_all(&folder).unwrap();
        let added = String::from_utf8(added.unwrap().stdout).unwrap();
        let system = added.trim_end();
        assert!(succeeds(self.nix_env().args(["--set", system])));
        system.into()
    }

    fn make_room(&self, settings: &str) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        make_room_in(
            &self.path("nix/store"),
            &|program| self.nix(program),
            &disk(settings),
            &self.machine(),
            &mut |line| lines.push(line.to_owned()),
        )
        .map(|()| lines)
    }

    fn free(&self) -> u64 {
        free_for_all(self.folder.path()).unwrap().bytes()
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().unwrap().status.success()
}

fn disk(settings: &str) -> Disk {
    let text = format!(
        "name = \"kikimora\"\n[[servers]]\naddress = \"a\"\nhost_keys = [\"ssh-ed25519 \
         AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti\"]\n[disk]\n{settings}"
    );
    Settings::parse(&text).unwrap().disk
}

#[test]
fn old_systems_go_and_those_in_use_stay() {
    let env = StoreEnv::new();
    let systems: Vec<_> = (1..=8).map(|number| env.install(number)).collect();
    symlink(&systems[0], env.path("run/booted-system")).unwrap();
    symlink(&systems[2], env.path("run/current-system")).unwrap();
    assert!(succeeds(env.nix_env().args(["--switch-generation", "5"])));
    let wanted = 32 << 20;
    assert!(env.free() < wanted);

    let lines = env
        .make_room("keep_systems = 2\nstore_free = \"32MiB\"")
        .unwrap();
    assert!(env.free() >= wanted);
    assert!(lines[0].contains("less than 32 MiB"), "{lines:?}");
    let is_said = |what: &str| lines.iter().any(|line| line.contains(what));
    assert!(is_said("freed"), "{lines:?}");
    let left: Vec<usize> = (1..=8)
        .filter(|number| {
            env.path(&format!("nix/var/nix/profiles/system-{number}-link"))
                .is_symlink()
        })
        .collect();
    assert_eq!(left, [1, 3, 5, 7, 8]);
    for number in left {
        assert!(systems[number - 1].is_dir(), "system {number} is gone");
    }

    let error = env
        .make_room("keep_systems = 2\nstore_free = \"60MiB\"")
        .unwrap_err()
        .to_string();
    for text in [
        "disk is full",
        "want 60 MiB",
        "0 old systems",
        "was collected",
    ] {
        assert!(error.contains(text), "{error}");
    }
    assert!(systems[0].is_dir() && systems[2].is_dir() && systems[4].is_dir());
}

#[test]
fn garbage_stays_where_the_owner_says_so() {
    let env = StoreEnv::new();
    let systems: Vec<_> = (1..=3).map(|number| env.install(number)).collect();
    let settings = "keep_systems = 2\nstore_free = \"60MiB\"\ncollect_garbage = false";
    let error = env.make_room(settings).unwrap_err().to_string();
    for text in ["1 old systems", "wasn't collected (disk.collect_garbage)"] {
        assert!(error.contains(text), "{error}");
    }
    assert!(systems.iter().all(|system| system.is_dir()));
}

#[test]
fn with_enough_room_nothing_is_touched() {
    let env = StoreEnv::new();
    let missing = |_: &str| Command::new("/nonexistent/nix");
    let store = env.path("nix/store");
    let settings = disk("store_free = \"32MiB\"");
    make_room_in(&store, &missing, &settings, &env.machine(), &mut |line| {
        panic!("{line}")
    })
    .unwrap();
}
