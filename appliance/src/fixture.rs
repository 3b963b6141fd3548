//! The state of an appliance that isn't running, for tests.

pub(crate) mod webhook;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use bento_protocol::{HostName, Report};
use jiff::Timestamp;

use crate::generation::{self, DigestCache};
use crate::problem::Problem;
use crate::publication::Publications;
use crate::publication::published::Published;
use crate::report::Summary;
use crate::report::fixture::record;
use crate::scan::{FleetFolder, HostTree};
use crate::store::atomic_file;
use crate::store::paths::{HostState, Runtime, State};

/// Runs git in a folder, with an author and without this machine's settings of git.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
    git.args(["-c", "protocol.file.allow=always"]);
    git.env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = git.args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The state and runtime folders of an appliance that isn't running.
pub(crate) struct Kept {
    pub(crate) state: State,
    pub(crate) runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Kept {
    /// A state with these tables in `fleet.toml`, after `[server]`, and no problems.
    pub(crate) fn new(tables: &str) -> Self {
        Self::in_folder(tables, tempfile::tempdir().unwrap())
    }

    /// The same, in memory if possible: for tests that write thousands of files, each of which waits for a disk.
    pub(crate) fn in_memory(tables: &str) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::in_folder(tables, folder.unwrap())
    }

    fn in_folder(tables: &str, folder: tempfile::TempDir) -> Self {
        let state = State::new(folder.path().join("state"));
        let runtime = Runtime::new(folder.path().join("run"));
        fs::create_dir(state.root()).unwrap();
        fs::create_dir(runtime.root()).unwrap();
        let kept = Kept {
            state,
            runtime,
            _folder: folder,
        };
        kept.set(tables);
        kept.set_problems(&[]);
        kept
    }

    /// Replaces the settings.
    pub(crate) fn set(&self, tables: &str) {
        let text = format!("[server]\naddress = \"bento.example.org\"\n{tables}");
        let reading = crate::fleet::read(&text).unwrap();
        assert_eq!(reading.problems, []);
        atomic_file::write_json(&self.state.fleet(), &reading.fleet).unwrap();
    }

    /// Replaces the problems.
    pub(crate) fn set_problems(&self, problems: &[Problem]) {
        atomic_file::write_json(&self.runtime.problems(), &problems).unwrap();
    }

    pub(crate) fn host(&self, name: &str) -> HostState {
        self.state.host(&name.parse().unwrap())
    }

    /// Publishes two files, one of them executable, and a symlink to it, as an appliance does, for a machine with this
    /// group.
    pub(crate) fn publish_files(&self, name: &str, gid: u32) -> HostName {
        let fleet = tempfile::tempdir().unwrap();
        let name: HostName = name.parse().unwrap();
        let source = fleet.path().join("hosts").join(name.as_str()).join("deep");
        fs::create_dir_all(&source).unwrap();
        for (file, mode) in [("flake.nix", 0o644), ("run", 0o755)] {
            fs::write(source.join(file), file).unwrap();
            fs::set_permissions(source.join(file), Permissions::from_mode(mode)).unwrap();
        }
        symlink("run", source.join("also-run")).unwrap();
        fs::write(source.with_file_name("configuration.nix"), "{ }").unwrap();
        let settings = format!("[server]\naddress = \"x\"\n[hosts.{name}]\n");
        let settings = crate::fleet::read(&settings).unwrap().fleet.hosts;
        let host = self.state.host(&name);
        fs::create_dir_all(host.root()).unwrap();
        let folder = FleetFolder::open(fleet.path()).unwrap();
        let tree = HostTree::walk(&folder, &name, &settings[&name]).unwrap();
        let mut digests = DigestCache::default();
        let now = Timestamp::UNIX_EPOCH;
        let manifest =
            generation::manifest(&name, &settings[&name], &tree, &folder, &mut digests, now);
        let publications = Publications::of(&host);
        let staged = publications.stage(&manifest.unwrap(), None, &tree, &folder, gid);
        publications.switch(staged.unwrap()).unwrap();
        name
    }

    pub(crate) fn publish(&self, name: &str, published: &Published) {
        let host = self.host(name);
        let chroot = host.publications().join("1/chroot");
        fs::create_dir_all(&chroot).unwrap();
        symlink(chroot, host.current()).unwrap();
        atomic_file::write_json(&host.published(), published).unwrap();
    }

    /// Replaces the reports of a machine.
    pub(crate) fn report(&self, name: &str, reports: &[Report]) {
        let mut summary = Summary::default();
        for report in reports {
            summary.add(&record(summary.next, report.clone()));
        }
        fs::create_dir_all(self.host(name).root()).unwrap();
        atomic_file::write_json(&self.host(name).summary(), &summary).unwrap();
    }

    pub(crate) fn contact(&self, name: &str, time: Timestamp) {
        fs::create_dir_all(self.host(name).root()).unwrap();
        File::create(self.host(name).seen())
            .unwrap()
            .set_modified(SystemTime::from(time))
            .unwrap();
    }
}
