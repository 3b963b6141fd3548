//! A machine to update, with a Nix store of its own, and its server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use bento_protocol::{HostName, Policy, Report};
use bento_tests::process::Output;
use bento_tests::{files, key};
use tempfile::TempDir;

use crate::publisher::{Content, Generation};
use crate::server::{Server, make_key};

pub(crate) const NAME: &str = "kikimora";
/// Where the client's settings are.
pub(crate) const SETTINGS: &str = "machine/etc/bento/client.toml";
/// What runs.
pub(crate) const CURRENT: &str = "machine/run/current-system";
/// What was booted.
const BOOTED: &str = "machine/run/booted-system";

pub(crate) struct ClientEnv {
    pub(crate) server: Server,
    folder: TempDir,
}

impl ClientEnv {
    /// A machine that is enrolled, runs version 0 and was never updated, and a server that has published nothing.
    pub(crate) fn new() -> Self {
        let env = Self::blank();
        env.install_first_system();
        env
    }

    /// The same without any system.
    pub(crate) fn blank() -> Self {
        let env = Self::without_settings();
        make_key(&env.path("key"));
        env.enrol(&key::public(&env.path("key")).unwrap());
        env.write_settings(&env.settings(&env.server.host_key, ""));
        env
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
        let env = ClientEnv { server, folder };
        for made in [
            "machine/run",
            "machine/etc/bento",
            "machine/proc/sys/kernel/random",
            "nix/conf",
            "home",
            "nixpkgs/nixos",
        ] {
            fs::create_dir_all(env.path(made)).unwrap();
        }
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\nflake-registry =\ndownload-attempts = 1\n";
        fs::write(env.path("nix/conf/nix.conf"), conf).unwrap();
        fs::write(
            env.path("nixpkgs/nixos/default.nix"),
            include_str!("fixtures/nixpkgs-stand-in.nix"),
        )
        .unwrap();
        env.begin_boot();
        env
    }

    /// What an installer leaves: a system that runs, was booted, and is in the profile.
    fn install_first_system(&self) {
        let folder = self.path("first");
        for content in classic("0") {
            let path = folder.join(content.path.strip_prefix("config/").unwrap());
            files::write(&path, content.bytes).unwrap();
        }
        let mut build = self.environment("nix-build");
        build.arg("--no-out-link");
        let built = Output::of(build.arg(folder.join("configuration.nix")));
        let system = built.with(0).stdout;
        let mut set = self.environment("nix-env");
        set.arg("--profile").arg(self.profile());
        Output::of(set.args(["--set", system.trim_end()])).with(0);
        for link in [CURRENT, BOOTED] {
            symlink(system.trim_end(), self.path(link)).unwrap();
        }
    }

    fn profile(&self) -> PathBuf {
        self.path("machine/nix/var/nix/profiles/system")
    }

    /// Plays a boot: into what the profile leads to.
    pub(crate) fn reboot(&self) {
        self.reboot_into(&fs::canonicalize(self.profile()).unwrap());
    }

    /// Plays a boot whose loader chose this system.
    pub(crate) fn reboot_into(&self, system: &Path) {
        for link in [CURRENT, BOOTED] {
            fs::remove_file(self.path(link)).unwrap();
            symlink(system, self.path(link)).unwrap();
        }
        self.begin_boot();
    }

    fn begin_boot(&self) {
        let id = self.path("machine/proc/sys/kernel/random/boot_id");
        let before = fs::read_to_string(&id).unwrap_or_default();
        fs::write(id, before + "boot ").unwrap();
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
        // What never works isn't waited for as long as on a real machine.
        let grace = match more.contains("confirm.grace") {
            true => "",
            false => "confirm.grace = \"1s\"\n",
        };
        format!(
            "name = \"{NAME}\"\nidentity_file = \"{}\"\nnix_path = \"nixpkgs={}\"\nguard = false\n{grace}{more}\n\
             [[servers]]\naddress = \"127.0.0.1\"\nport = {}\nhost_keys = [\"{host_key}\"]\n",
            self.path("key").display(),
            self.path("nixpkgs").display(),
            self.server.port,
        )
    }

    pub(crate) fn write_settings(&self, text: &str) {
        fs::write(self.path(SETTINGS), text).unwrap();
    }

    /// The machine's settings, with more.
    pub(crate) fn configure(&self, more: &str) {
        self.write_settings(&self.settings(&self.server.host_key, more));
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
            .arg(self.path(SETTINGS))
            .arg("--state")
            .arg(self.path("state"))
            .arg("--root")
            .arg(self.path("machine"));
        client
    }

    /// A program that sees this machine's Nix and no other.
    pub(crate) fn environment(&self, program: &str) -> Command {
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

    pub(crate) fn update(&self) -> Output {
        self.update_with(&[])
    }

    pub(crate) fn update_with(&self, arguments: &[&str]) -> Output {
        self.ask("update", arguments)
    }

    /// Carries out a command of the client.
    pub(crate) fn ask(&self, command: &str, arguments: &[&str]) -> Output {
        Output::of(self.client(command).args(arguments))
    }

    /// The machine is wholly on this version, now and after a boot.
    #[track_caller]
    pub(crate) fn is_wholly_on(&self, version: &str) {
        let is_on = (self.running(), self.bootable());
        let version = Some(version.to_owned());
        assert_eq!(is_on, (version.clone(), version));
        self.nothing_is_left();
    }

    /// What keeps Nix from collecting something as garbage, without processes.
    pub(crate) fn roots(&self) -> Vec<String> {
        let mut roots = self.environment("nix-store");
        let text = Output::of(roots.args(["--gc", "--print-roots"])).stdout;
        let roots = text.lines().filter(|line| line.starts_with('/'));
        let roots = roots.filter(|line| !line.starts_with("/proc/"));
        roots.map(str::to_owned).collect()
    }

    /// No run is unfinished, and nothing armed.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        assert_eq!(self.state_names("armed"), [""; 0]);
        for name in ["transaction.json", "previous", "switching"] {
            assert!(
                fs::symlink_metadata(self.state(name)).is_err(),
                "{name} is left"
            );
        }
    }

    /// What runs, as its version.
    pub(crate) fn running(&self) -> Option<String> {
        let version = fs::read_to_string(self.path(CURRENT).join("nixos-version")).ok()?;
        Some(version.trim_end().to_owned())
    }

    /// What a boot leads to, as its version.
    pub(crate) fn bootable(&self) -> Option<String> {
        let version = fs::read_to_string(self.profile().join("nixos-version")).ok()?;
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
        files::names(&self.state(folder)).unwrap()
    }
}

pub(crate) fn host() -> HostName {
    NAME.parse().unwrap()
}

pub(crate) fn generation(contents: Vec<Content>) -> Generation {
    Generation::new(&host(), Policy::default(), contents)
}

/// A flake whose system has this version. Its lock file pins the inputs that it doesn't have.
pub(crate) fn flake(version: &str) -> Vec<Content> {
    let mut contents = parts(version);
    contents.push(Content::new(
        "config/flake.lock",
        r#"{"nodes":{"root":{}},"root":"root","version":7}"#,
    ));
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

/// A flake that can't be evaluated.
pub(crate) fn broken(version: &str) -> Vec<Content> {
    with(
        flake(version),
        "config/flake.nix",
        "{ outputs = _: nonsense; }",
    )
}

/// The same with what the guard wants to see: the client's timer and its settings.
pub(crate) fn carrying_on(contents: Vec<Content>, settings: &str) -> Vec<Content> {
    let timer = "config/etc/systemd/system/timers.target.wants/bento-update.timer";
    let contents = with(contents, timer, "[Timer]\n");
    with(contents, "config/etc/bento/client.toml", settings)
}

/// The same with a specialisation of this version.
pub(crate) fn specialised(mut contents: Vec<Content>, version: &str) -> Vec<Content> {
    for mut part in parts(version) {
        part.path = part.path.replacen("config/", "config/console/", 1);
        contents.push(part);
    }
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
        Content::new("config/kernel", "a kernel"),
        Content::new("config/activation.sh", "activate"),
        Content::new("config/boot-loader.sh", ""),
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
