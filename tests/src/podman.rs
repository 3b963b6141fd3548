//! Rootless podman, as an ordinary user.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User};

use crate::{namespace, process};

/// The user that runs podman when the environment is started as root.
const USER: &str = "bento-tests";
const HOME: &str = "/var/lib/bento-tests";
/// Where podman keeps its sockets and process ids; logind makes it only for users that log in.
const RUNTIME: &str = "/run/user";

/// Rootless podman of one user: the one that runs the tests, or `bento-tests` where root does.
#[derive(Debug, Clone)]
pub struct Podman {
    user: Option<User>,
    delegated: bool,
}

impl Podman {
    /// Podman as it can be used here; as root, makes the user `bento-tests` if there is none.
    ///
    /// # Errors
    /// If this process doesn't stand where podman can run (see [`namespace::check`]), or the user
    /// can't be made.
    pub fn new() -> Result<Self> {
        namespace::check()?;
        let user = if Uid::effective().is_root() {
            Some(ordinary_user()?)
        } else {
            None
        };
        let delegated = user.is_none() && controllers_are_delegated();
        Ok(Self { user, delegated })
    }

    /// Runs podman and gives what it printed on its standard output, without the last newline.
    ///
    /// # Errors
    /// If podman fails, or takes longer than [`process::LONG`]; the error carries what it said.
    pub fn run<I>(&self, arguments: I) -> Result<String>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let output = process::run(self.command().args(arguments), process::LONG)?.success()?;
        Ok(output.stdout.trim_end().to_owned())
    }

    /// Loads an image from an archive that its user may not be able to open.
    ///
    /// # Errors
    /// As [`Podman::run`], or if the archive can't be read.
    pub fn load(&self, archive: &Path) -> Result<String> {
        let file = File::open(archive)
            .with_context(|| format!("cannot read the image {}", archive.display()))?;
        let output = process::run_as_set_up(self.command().arg("load").stdin(file), process::LONG)?;
        Ok(output.success()?.stdout)
    }

    /// The command `podman` without arguments, for callers with wishes of their own.
    #[must_use]
    pub fn command(&self) -> Command {
        self.for_this_place(self.as_user("podman"))
    }

    /// The same, with a variable in its environment.
    #[must_use]
    pub fn command_with(&self, variable: &str, value: &Path) -> Command {
        let mut command = self.as_user("env");
        command
            .arg(format!("{variable}={}", value.display()))
            .arg("podman");
        self.for_this_place(command)
    }

    fn for_this_place(&self, mut podman: Command) -> Command {
        podman.args(self.options());
        podman
    }

    /// What podman itself needs here, before any of its commands: nothing on a well set-up machine.
    #[must_use]
    pub fn options(&self) -> &'static [&'static str] {
        if self.delegated {
            &[]
        } else {
            &["--cgroup-manager=cgroupfs"]
        }
    }

    /// Any program, run as podman's user.
    #[must_use]
    pub fn as_user(&self, program: &str) -> Command {
        let Some(user) = &self.user else {
            return Command::new(program);
        };
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .args(["--clear-groups", "--", "env", "-i"])
            .arg(format!("HOME={HOME}"))
            .arg(format!("USER={USER}"))
            .arg(format!("XDG_RUNTIME_DIR={}", runtime(user.uid).display()))
            .arg(format!(
                "PATH={}",
                std::env::var("PATH").unwrap_or_default()
            ))
            .arg(program)
            // The caller's folder may be closed to this user.
            .current_dir("/");
        command
    }

    /// What `podman run` needs here beside what it is given: nothing on a well set-up machine.
    #[must_use]
    pub fn run_options(&self) -> &'static [&'static str] {
        // The log driver is named because the default, the journal, isn't everywhere.
        if self.delegated {
            &["--log-driver=k8s-file"]
        } else {
            &["--log-driver=k8s-file", "--cgroups=disabled"]
        }
    }

    /// Gives a file or folder, and all that is in it, to podman's user: it is then what a fleet
    /// folder is to the administrator who runs the container.
    ///
    /// # Errors
    /// If something in it can't be given away.
    pub fn own(&self, path: &Path) -> Result<()> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        let mut chown = Command::new("chown");
        chown
            .args(["--recursive", "--no-dereference"])
            .arg(format!("{}:{}", user.uid, user.gid))
            .arg(path);
        process::run(&mut chown, process::SHORT)?.success()?;
        Ok(())
    }

    /// The home of the user that was made to run podman; none where it runs as who started this.
    #[must_use]
    pub fn home(&self) -> Option<&'static Path> {
        self.user.as_ref().map(|_| Path::new(HOME))
    }

    /// The ids of podman's user, which are those of root in its containers.
    #[must_use]
    pub fn ids(&self) -> (Uid, Gid) {
        self.user.as_ref().map_or_else(
            || (Uid::effective(), Gid::effective()),
            |user| (user.uid, user.gid),
        )
    }
}

fn ordinary_user() -> Result<User> {
    if User::from_name(USER)?.is_none() {
        let mut useradd = Command::new("useradd");
        useradd
            .args([
                "--create-home",
                "--home-dir",
                HOME,
                "--shell",
                "/usr/sbin/nologin",
            ])
            .args([
                "--comment",
                "rootless podman for bento's tests and demo",
                USER,
            ]);
        process::run(&mut useradd, process::SHORT)?
            .success()
            .with_context(|| format!("cannot make the user {USER}"))?;
    }
    let user = User::from_name(USER)?.with_context(|| format!("there is no user {USER}"))?;
    for file in ["/etc/subuid", "/etc/subgid"] {
        let ranges = fs::read_to_string(file).unwrap_or_default();
        ranges
            .lines()
            .find(|line| line.starts_with(&format!("{USER}:")))
            .with_context(|| {
                format!(
                    "{file} gives no subordinate ids to {USER}: \
                     `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {USER}`, or another free range"
                )
            })?;
    }
    let runtime = runtime(user.uid);
    fs::create_dir_all(&runtime).with_context(|| format!("cannot make {}", runtime.display()))?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
    chown(&runtime, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    Ok(user)
}

fn runtime(uid: Uid) -> PathBuf {
    Path::new(RUNTIME).join(uid.to_string())
}

/// Whether the user's systemd has cgroup controllers to give to containers.
fn controllers_are_delegated() -> bool {
    let uid = Uid::effective();
    let controllers =
        format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers");
    fs::read_to_string(controllers).is_ok_and(|names| !names.trim().is_empty())
}
