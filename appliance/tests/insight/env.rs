//! A fleet, and what an appliance keeps of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bento_appliance::fleet;
use bento_appliance::generation::{self, DigestCache};
use bento_appliance::publication::Publications;
use bento_appliance::report::{Summary, Writers, take_in};
use bento_appliance::scan::{FleetFolder, HostTree};
use bento_appliance::store::accounts::Accounts;
use bento_appliance::store::atomic_file;
use bento_appliance::store::paths::State;
use bento_protocol::{GenerationId, HostName, Report};
use bento_tests::files;
use bento_tests::process::Output;
use bento_tests::report::{file_name, packed};
use jiff::Timestamp;
use tempfile::TempDir;

pub struct InsightEnv {
    folder: TempDir,
    pub state: State,
}

impl InsightEnv {
    /// A fleet of these machines, each with a flake.
    pub fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = InsightEnv {
            state: State::new(folder.path().join("state")),
            folder,
        };
        fs::create_dir(env.state.root()).unwrap();
        fs::write(env.state.lock(), "").unwrap();
        let hosts: String = names
            .iter()
            .map(|name| format!("[hosts.{name}]\n"))
            .collect();
        env.write("fleet.toml", &format!("[server]\naddress = \"x\"\n{hosts}"));
        for name in names {
            env.write(&format!("hosts/{name}/flake.nix"), "one\n");
        }
        atomic_file::write_json(&env.state.fleet(), &env.settings()).unwrap();
        let mut accounts = Accounts::beginning_after(0);
        for name in names {
            accounts
                .enrol(&name.parse().unwrap(), Timestamp::UNIX_EPOCH)
                .unwrap();
            fs::create_dir_all(env.state.host(&name.parse().unwrap()).root()).unwrap();
        }
        accounts.write(&env.state).unwrap();
        env
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn fleet(&self) -> PathBuf {
        self.path("fleet")
    }

    fn settings(&self) -> fleet::Fleet {
        let text = fs::read_to_string(self.fleet().join("fleet.toml")).unwrap();
        fleet::read(&text).unwrap().fleet
    }

    /// Writes a file of the fleet folder.
    pub fn write(&self, path: &str, text: &str) {
        files::write(&self.fleet().join(path), text).unwrap();
    }

    /// Writes a program.
    pub fn program(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        files::write_program(&path, text).unwrap();
        path
    }

    /// Publishes what is in the folder for a machine, and clears away what was published before.
    pub fn publish(&self, name: &str) -> GenerationId {
        let name: HostName = name.parse().unwrap();
        let (folder, settings) = (FleetFolder::open(&self.fleet()).unwrap(), self.settings());
        let host = &settings.hosts[&name];
        let tree = HostTree::walk(&folder, &name, host).unwrap();
        let mut digests = DigestCache::default();
        let manifest =
            generation::manifest(&name, host, &tree, &folder, &mut digests, Timestamp::now());
        let manifest = manifest.unwrap();
        let keep = self.state.host(&name);
        let publications = Publications::of(&keep);
        let gid = rustix::process::getgid().as_raw();
        let prepared = publications
            .stage(&manifest, None, &tree, &folder, gid)
            .unwrap();
        publications.switch(prepared).unwrap();
        let current = publications.current().unwrap();
        for number in publications.numbers().unwrap() {
            if Some(number) != current {
                publications.remove_superseded(number).unwrap();
            }
        }
        let in_use = || Ok(Summary::read(&keep)?.installed());
        publications.prune(in_use).unwrap();
        manifest.generation()
    }

    /// Takes in a report of a machine.
    pub fn report(&self, name: &str, report: &Report) {
        let logs = tempfile::tempdir().unwrap();
        fs::write(logs.path().join(file_name(report)), packed(report).unwrap()).unwrap();
        let name: HostName = name.parse().unwrap();
        let refuse = &mut |entry: &str, why: &str| panic!("{entry}: {why}");
        let keep = self.state.host(&name);
        take_in(
            logs.path(),
            &name,
            &keep,
            Writers::None,
            Timestamp::now(),
            refuse,
        )
        .unwrap();
    }

    /// `bento` with arguments, in the appliance's place.
    pub fn here(&self, arguments: &[&str]) -> Command {
        let mut command = bento(self.folder.path());
        command
            .args(arguments)
            .arg("--state")
            .arg(self.state.root());
        command
    }

    /// `bento` with arguments, where there is neither an appliance nor a fleet.
    pub fn nowhere(&self, arguments: &[&str]) -> Command {
        let mut command = bento(self.folder.path());
        command.args(arguments);
        command
    }

    /// `bento` with arguments, in the fleet folder of a machine from which the appliance is reached by a command.
    pub fn elsewhere(&self, arguments: &[&str]) -> Command {
        let (program, state) = (env!("CARGO_BIN_EXE_bento"), self.state.root().display());
        let text = format!("#!/bin/sh\nshift\nexec {program} \"$@\" --state {state}\n");
        let admin = self.program("admin", &text);
        let settings = fs::read_to_string(self.fleet().join("fleet.toml")).unwrap();
        if !settings.contains("admin = ") {
            let hosts = settings.split_once("[hosts").unwrap().1;
            let server = format!("[server]\naddress = \"x\"\nadmin = [{admin:?}]\n[hosts{hosts}");
            self.write("fleet.toml", &server);
        }
        let mut command = bento(&self.fleet());
        command.args(arguments);
        command
    }
}

fn bento(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bento"));
    command.current_dir(folder).env_remove("BENTO_DIR");
    command.stdin(Stdio::null());
    command
}

/// What a command that succeeds prints.
pub fn printed(command: &mut Command) -> String {
    Output::of(command).with(0).stdout
}

/// What a command that fails says.
pub fn refusal(command: &mut Command) -> String {
    let output = Output::of(command).with(1);
    assert_eq!(output.stdout, "");
    output.stderr
}

/// The report of a machine that switched to this system.
pub fn success(generation: GenerationId, system: &str) -> Report {
    bento_tests::report::success(generation, system.parse().unwrap())
}
