//! The environment of the tests: a real sshd and real clients, in mount and process namespaces of their own, with `/etc` and
//! `/run` as bare as in the container, and the test as process 1.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bento_appliance::daemon::privileges;
use bento_appliance::sshd::{Login, SessionLimits, passwd};
use bento_appliance::store::paths::{Runtime, State};
use bento_tests::{key, unshare};

use crate::server::Server;

/// The mount point of a file system in memory. Only root can write to it, as sshd demands.
const ROOT: &str = "/mnt";
/// Longer than any test lasts.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Short, but never waited for.
pub const SECOND: Duration = Duration::from_secs(1);

/// Runs a test in namespaces of its own.
pub fn inside<F: FnOnce(SessionEnv)>(body: F) {
    unshare::inside::<F>(&[], || body(SessionEnv::prepare()));
}

/// Creates a key pair, and returns the private file.
pub fn make_key(path: &Path) -> PathBuf {
    key::make(path, "of a test").unwrap();
    path.to_owned()
}

/// A prepared, empty appliance.
pub struct SessionEnv {
    pub state: State,
    pub runtime: Runtime,
    home: PathBuf,
}

impl SessionEnv {
    fn prepare() -> Self {
        let root = Path::new(ROOT);
        let runtime = Runtime::new(root.join("run"));
        unshare::make_bare(root, runtime.root()).unwrap();
        let home = root.join("home");
        fs::create_dir(&home).unwrap();
        // The clients and ssh-keygen want to know who they are.
        passwd::write(&runtime, &[]).unwrap();
        assert_eq!(privileges::missing().unwrap(), [""; 0]);
        privileges::drop_unneeded().unwrap();
        SessionEnv {
            state: State::new(root.join("state")),
            runtime,
            home,
        }
    }

    /// The folder of the clients' files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// A machine with a key and a publication, which can't log in yet.
    pub fn machine(&self, name: &str, uid: u32) -> Machine {
        self.machine_with(name, uid, &make_key(&self.path(name)))
    }

    /// The same, with an existing key.
    pub fn machine_with(&self, name: &str, uid: u32, key: &Path) -> Machine {
        let account = Login {
            name: name.parse().unwrap(),
            uid,
            keys: vec![key::public(key).unwrap().parse().unwrap()],
        };
        let host = self.state.host(&account.name);
        let chroot = host.publications().join("1");
        let inbox = chroot.join("logs");
        fs::create_dir_all(&inbox).unwrap();
        for (folder, mode) in [(&chroot, 0o750), (&inbox, 0o730)] {
            chown(folder, None, Some(uid)).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(chroot.join("secret"), format!("only for {name}")).unwrap();
        fs::set_permissions(chroot.join("secret"), fs::Permissions::from_mode(0o644)).unwrap();
        symlink(format!("generation-of-{name}"), chroot.join("generation")).unwrap();
        symlink("publications/1", host.current()).unwrap();
        Machine {
            account,
            key: key.to_owned(),
            inbox,
        }
    }

    /// Serves these machines.
    pub fn open(&self, limits: SessionLimits, machines: &[&Machine]) -> Server {
        Server::open(self, limits, machines)
    }
}

/// A machine of the fleet.
pub struct Machine {
    pub account: Login,
    pub key: PathBuf,
    pub inbox: PathBuf,
}

impl Machine {
    /// Puts a file where the machine can read it.
    pub fn publish(&self, name: &str, content: &[u8]) {
        let path = self.inbox.with_file_name(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// The content of a file in the inbox.
    pub fn received(&self, name: &str) -> Vec<u8> {
        fs::read(self.inbox.join(name)).unwrap()
    }
}

/// All processes but this one: their number, and their status from `/proc`.
pub fn others() -> Vec<(u32, String)> {
    let numbers = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let others = numbers.filter(|number| *number != std::process::id());
    others
        .filter_map(|number| {
            Some((
                number,
                fs::read_to_string(format!("/proc/{number}/stat")).ok()?,
            ))
        })
        .collect()
}

/// A file of this many bytes.
pub fn make_file(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}
