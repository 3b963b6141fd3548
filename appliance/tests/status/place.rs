//! The state of an appliance, made by its own parts: what is published was published, and what was reported taken in.

use std::fs;
use std::path::PathBuf;

use bento_appliance::fleet::{self, Fleet};
use bento_appliance::generation::{self, DigestCache};
use bento_appliance::publication::Publications;
use bento_appliance::publication::published::Published;
use bento_appliance::report::{Writers, take_in};
use bento_appliance::scan::{FleetFolder, HostTree};
use bento_appliance::store::atomic_file;
use bento_appliance::store::paths::{HostState, Runtime, State};
use bento_protocol::{HostName, Outcome, Report, Systems};
use bento_tests::files;
use bento_tests::report::{file_name, packed, switched};
use jiff::Timestamp;

/// A fleet folder, and the state and the runtime files of an appliance that serves it.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub state: State,
    pub runtime: Runtime,
}

impl Place {
    /// A fleet of these machines, for which nothing is published yet.
    pub fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("state"));
        let runtime = Runtime::new(folder.path().join("run"));
        for made in [state.root(), &state.hosts(), runtime.root()] {
            fs::create_dir(made).unwrap();
        }
        let place = Place {
            folder,
            state,
            runtime,
        };
        place.set_fleet(names);
        place.set_problems("[]");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes it a fleet of these machines, as the appliance does: `fleet.toml` was read, and is kept.
    pub fn set_fleet(&self, names: &[&str]) {
        let mut toml = "[server]\naddress = \"bento.example.org\"\n".to_owned();
        for name in names {
            toml += &format!("[hosts.{name}]\n");
            fs::create_dir_all(self.host(name).root()).unwrap();
        }
        let reading = fleet::read(&toml).unwrap();
        assert_eq!(reading.problems, []);
        let folder = self.path("fleet");
        files::write(&folder.join("fleet.toml"), &toml).unwrap();
        atomic_file::write_json(&self.state.fleet(), &reading.fleet).unwrap();
    }

    /// Sets the problems of the fleet, as JSON.
    pub fn set_problems(&self, problems: &str) {
        atomic_file::write(&self.runtime.problems(), problems.as_bytes()).unwrap();
    }

    pub fn host(&self, name: &str) -> HostState {
        self.state.host(&name.parse().unwrap())
    }

    /// Publishes a configuration of one file.
    pub fn publish(&self, name: &str, text: &str) {
        let folder = self.path("fleet");
        files::write(&folder.join(format!("hosts/{name}/flake.nix")), text).unwrap();
        let fleet: Fleet = atomic_file::read_json(&self.state.fleet())
            .unwrap()
            .unwrap();
        let name: HostName = name.parse().unwrap();
        let (host, opened) = (&fleet.hosts[&name], FleetFolder::open(&folder).unwrap());
        let tree = HostTree::walk(&opened, &name, host).unwrap();
        let now = Timestamp::now();
        let mut digests = DigestCache::default();
        let manifest = generation::manifest(&name, host, &tree, &opened, &mut digests, now);
        let keep = self.state.host(&name);
        let publications = Publications::of(&keep);
        for folder in [keep.manifests(), keep.publications()] {
            fs::create_dir_all(folder).unwrap();
        }
        let gid = rustix::process::getgid().as_raw();
        let prepared = publications
            .stage(&manifest.unwrap(), None, &tree, &opened, gid)
            .unwrap();
        publications.switch(prepared).unwrap();
    }

    /// Takes in the report of a run with what is published.
    pub fn report(&self, name: &str, outcome: Outcome) {
        let keep = self.host(name);
        let publications = Publications::of(&keep);
        let published = Published::read(&keep).unwrap().unwrap();
        let report = report(&published, outcome);
        let inbox = publications.inbox(publications.current().unwrap().unwrap());
        fs::write(inbox.join(file_name(&report)), packed(&report).unwrap()).unwrap();
        let mut refuse = |name: &str, why: &str| panic!("{name} was refused: {why}");
        let name = name.parse().unwrap();
        let now = Timestamp::now();
        let intake = take_in(&inbox, &name, &keep, Writers::None, now, &mut refuse).unwrap();
        assert_eq!(intake.taken.len(), 1);
    }
}

/// The report of a run that switched to what it built, or failed and stayed.
fn report(published: &Published, outcome: Outcome) -> Report {
    let built = format!("/nix/store/{}-nixos-system", published.generation.short());
    let built = Some(built.parse().unwrap());
    let failed = !outcome.is_success();
    Report {
        outcome,
        system: Systems {
            before: None,
            built: built.clone().filter(|_| !failed),
            running: built.clone(),
            booted: built,
        },
        error: failed.then(|| "error: undefined variable 'motto'".to_owned()),
        nix: Some("2.26.3".into()),
        log: "building…\n".repeat(200),
        ..switched(published.generation)
    }
}
