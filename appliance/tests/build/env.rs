//! An administrator's machine: a fleet folder, and a Nix of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bento_appliance::preview::Preview;
use bento_appliance::release::{Build, FolderRecord};
use bento_appliance::scan::FleetFolder;
use bento_protocol::{GenerationId, HostName};
use bento_tests::files;
use bento_tests::process::Output;
use tempfile::TempDir;

/// Of a flake whose system is `NAME`'s, at once after `SCRIPT` has run.
const FLAKE: &str = r#"{
  outputs = { self }: {
    nixosConfigurations.NAME.config.system.build.toplevel = derivation {
      name = "system-of-NAME";
      system = "PLATFORM";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      source = "${./.}";
      args = [ "-euc" "SCRIPT; mkdir -p $out/bin; echo > $out/bin/switch-to-configuration" ];
    };
  };
}
"#;

/// The lock file of a flake without inputs.
pub(crate) const LOCK: &str = r#"{"nodes":{"root":{}},"root":"root","version":7}"#;

pub(crate) struct BuildEnv(TempDir);

impl BuildEnv {
    /// A fleet of these machines, without a folder for any of them.
    pub(crate) fn new(hosts: &[&str]) -> Self {
        let env = BuildEnv(tempfile::tempdir().unwrap());
        for made in ["fleet", "nix/conf", "home", "tmp"] {
            fs::create_dir_all(env.path(made)).unwrap();
        }
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\nflake-registry =\n";
        fs::write(env.path("nix/conf/nix.conf"), conf).unwrap();
        let hosts: Vec<_> = hosts
            .iter()
            .map(|host| format!("[hosts.{host}]\n"))
            .collect();
        env.write(
            "fleet.toml",
            &format!("[server]\naddress = \"x\"\n{}", hosts.concat()),
        );
        env
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn fleet(&self) -> PathBuf {
        self.path("fleet")
    }

    /// Writes a file of the fleet.
    pub(crate) fn write(&self, name: &str, text: &str) {
        files::write(&self.fleet().join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.fleet().join(name)).unwrap()
    }

    /// Makes a machine's folder a flake with a lock file, whose builder runs this script.
    pub(crate) fn flake(&self, host: &str, script: &str) {
        let flake = FLAKE
            .replace("NAME", host)
            .replace("PLATFORM", &format!("{}-linux", std::env::consts::ARCH))
            .replace("SCRIPT", script);
        self.write(&format!("hosts/{host}/flake.nix"), &flake);
        self.write(&format!("hosts/{host}/flake.lock"), LOCK);
    }

    /// `bento` with these arguments, in the fleet folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment(env!("CARGO_BIN_EXE_bento"));
        command.args(arguments).current_dir(self.fleet());
        command
    }

    /// A program that sees this Nix and no other.
    pub(crate) fn environment(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("NIX_STORE_DIR", self.path("nix/store"))
            .env("NIX_STATE_DIR", self.path("nix/var"))
            .env("NIX_LOG_DIR", self.path("nix/log"))
            .env("NIX_CONF_DIR", self.path("nix/conf"));
        command
    }

    pub(crate) fn bento(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// The generation that would be published for a machine.
    pub(crate) fn generation(&self, host: &str) -> GenerationId {
        let host: HostName = host.parse().unwrap();
        let preview = Preview::make(&self.fleet(), std::slice::from_ref(&host)).unwrap();
        let host_preview = preview.machines[&host].as_ref().unwrap();
        host_preview.manifest.generation()
    }

    /// What is recorded of a machine's build.
    pub(crate) fn record(&self, host: &str) -> Option<Build> {
        let folder = FleetFolder::open(&self.fleet()).unwrap();
        Build::of(&folder, &host.parse().unwrap()).unwrap()
    }

    /// What nobody has cleaned up after a command.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        files::names(&self.path("tmp")).unwrap()
    }
}
