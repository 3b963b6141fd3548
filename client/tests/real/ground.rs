//! A machine to update, with a Nix store of its own, and its server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bento_protocol::{HostName, Policy, Report};
use tempfile::TempDir;

use crate::publisher::{Content, Generation};
use crate::server::{self, Server};

pub(crate) const NAME: &str = "kikimora";

pub(crate) struct Ground {
    pub(crate) server: Server,
    folder: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ground {
    /// A machine that is enrolled and was never updated, and a server that has published nothing.
    pub(crate) fn new() -> Self {
        let ground = Self::without_settings();
        server::make_key(&ground.path("key"));
        ground.enrol(&server::public_key(&ground.path("key")));
        ground.write_settings(&ground.settings(&ground.server.host_key, ""));
        ground
    }

    /// A machine on which nobody has run anything yet.
    pub(crate) fn without_settings() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests start an sshd with chroots: run them as root"
        );
        // Not in /tmp: sshd refuses a chroot below a folder to which others can write.
        let folder = tempfile::Builder::new()
            .prefix("bento-client-test-")
            .tempdir_in("/var/lib")
            .unwrap();
        fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let server = Server::start(folder.path(), NAME);
        let ground = Ground { server, folder };
        for made in ["machine/run", "nix/conf", "home", "nixpkgs/nixos"] {
            fs::create_dir_all(ground.path(made)).unwrap();
        }
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\nflake-registry =\n";
        fs::write(ground.path("nix/conf/nix.conf"), conf).unwrap();
        fs::write(
            ground.path("nixpkgs/nixos/default.nix"),
            include_str!("fixtures/nixpkgs-stand-in.nix"),
        )
        .unwrap();
        ground
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    pub(crate) fn enrol(&self, public_key: &str) {
        self.server.enrol(NAME, public_key);
    }

    /// Settings that name this server, with more at their beginning.
    pub(crate) fn settings(&self, host_key: &str, more: &str) -> String {
        format!(
            "name = \"{NAME}\"\nidentity_file = \"{}\"\nnix_path = \"nixpkgs={}\"\nguard = false\n{more}\n\
             [[servers]]\naddress = \"127.0.0.1\"\nport = {}\nhost_keys = [\"{host_key}\"]\n",
            self.path("key").display(),
            self.path("nixpkgs").display(),
            self.server.port,
        )
    }

    pub(crate) fn write_settings(&self, text: &str) {
        fs::write(self.path("client.toml"), text).unwrap();
    }

    /// Publishes files, with deltas from the generations given.
    pub(crate) fn publish(&mut self, contents: Vec<Content>, from: &[&Generation]) -> Generation {
        let generation = generation(contents);
        self.server.publish(&generation, from);
        generation
    }

    /// A command of the client, for this machine.
    pub(crate) fn client(&self, command: &str) -> Command {
        let mut client = self.environment(env!("CARGO_BIN_EXE_bento-client"));
        client
            .arg(command)
            .arg("--config")
            .arg(self.path("client.toml"))
            .arg("--state")
            .arg(self.path("state"))
            .arg("--root")
            .arg(self.path("machine"));
        client
    }

    /// A program that sees this machine's Nix and no other.
    fn environment(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("NIX_STORE_DIR", self.path("nix/store"))
            .env("NIX_STATE_DIR", self.path("machine/nix/var/nix"))
            .env("NIX_LOG_DIR", self.path("nix/log"))
            .env("NIX_CONF_DIR", self.path("nix/conf"))
            .env("MACHINE_ROOT", self.path("machine"));
        command
    }

    pub(crate) fn update(&self) -> Ended {
        Ended::of(self.client("update").output().unwrap())
    }

    /// What runs, as its version.
    pub(crate) fn running(&self) -> Option<String> {
        let version =
            fs::read_to_string(self.path("machine/run/current-system/nixos-version")).ok()?;
        Some(version.trim_end().to_owned())
    }

    /// The calls of switch-to-configuration: what was asked, and of which version.
    pub(crate) fn switches(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("machine/switches")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        self.server
            .reports(NAME)
            .into_iter()
            .map(|(_, report)| report)
            .collect()
    }

    pub(crate) fn last_report(&self) -> Report {
        self.reports().pop().expect("no report has arrived")
    }

    /// What is in a folder of the state, sorted.
    pub(crate) fn state_names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.state(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended {
            code: output
                .status
                .code()
                .expect("the client was ended by a signal"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The exit code must be this.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard error must have this in it.
    #[track_caller]
    pub(crate) fn complaining(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "{text:?} isn't in {}",
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn without_complaint(self) -> Self {
        assert_eq!(self.stderr, "");
        self
    }
}

pub(crate) fn host() -> HostName {
    NAME.parse().unwrap()
}

pub(crate) fn generation(contents: Vec<Content>) -> Generation {
    Generation::new(&host(), Policy::default(), contents)
}

/// A flake whose system has this version.
pub(crate) fn flake(version: &str) -> Vec<Content> {
    let mut contents = parts(version);
    contents.push(Content::new(
        "config/flake.nix",
        include_str!("fixtures/flake.nix"),
    ));
    contents
}

/// A folder without a flake whose system has this version.
pub(crate) fn classic(version: &str) -> Vec<Content> {
    let mut contents = parts(version);
    contents.push(Content::new(
        "config/configuration.nix",
        include_str!("fixtures/configuration.nix"),
    ));
    contents
}

/// The same with a file in place of another, or besides.
pub(crate) fn with(mut contents: Vec<Content>, path: &str, bytes: &str) -> Vec<Content> {
    contents.retain(|content| content.path != path);
    contents.push(Content::new(path, bytes));
    contents
}

fn parts(version: &str) -> Vec<Content> {
    vec![
        Content::new("config/system.nix", include_str!("fixtures/system.nix")),
        Content::executable("config/build.sh", include_str!("fixtures/build.sh")),
        Content::new(
            "config/platform",
            format!("{}-linux", std::env::consts::ARCH),
        ),
        Content::new("config/version", version),
        Content::new("config/switch-ends-with", "0"),
    ]
}

/// Whether a text is in any file below a folder.
pub(crate) fn is_anywhere(folder: &Path, text: &str) -> bool {
    let found = Command::new("grep")
        .args(["-rqF", text])
        .arg(folder)
        .status()
        .unwrap();
    match found.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("grep can't search {}", folder.display()),
    }
}
