//! A whole machine to update: Debian with real systemd and real Nix, booted by systemd-nspawn.
//!
//! A guest has a writable tree of its own over one common base tree, so that making one costs next
//! to nothing. It shares the network of this machine: the appliance is at 127.0.0.1 for it too. Its
//! Nix needs no network.

mod base;
mod elevation;

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self as system, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::Uid;

pub use base::base_tree;
use elevation::Elevation;

use crate::lifeline::Lifeline;
use crate::process::{self, Output};
use crate::{artifacts, namespace, wait};

const CGROUPS: &str = "/sys/fs/cgroup/bento-ground";
/// Booting takes half a second; a machine that is busy with other tests needs more.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// systemd gives a unit 90 s to stop; no unit of a guest should need more than a moment.
const STOP_LIMIT: Duration = Duration::from_secs(30);

const BOOT_SYSTEMD: &str = concat!(include_str!("tree.sh"), include_str!("systemd.sh"));
const BOOT_ROOT: &str = concat!(include_str!("tree.sh"), include_str!("root.sh"));
const END: &str = include_str!("end.sh");

static COUNT: AtomicU32 = AtomicU32::new(1);

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole machine: systemd-nspawn, systemd, Nix. Needs root.
    Systemd,
    /// A root folder and process ids of its own, with real Nix, but without systemd.
    Root,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Systemd => "systemd-nspawn",
            Self::Root => "pivot_root, without systemd",
        })
    }
}

impl Kind {
    /// The best kind that can run here, or the one that `BENTO_GROUND_GUEST` (`systemd`, `root`) asks for.
    ///
    /// # Errors
    /// If the variable holds anything else.
    pub fn here() -> Result<Self> {
        match env::var("BENTO_GROUND_GUEST").as_deref() {
            Ok("systemd") => Ok(Self::Systemd),
            Ok("root") => Ok(Self::Root),
            Ok(other) => {
                bail!("BENTO_GROUND_GUEST is {other:?}; it may be \"systemd\" or \"root\"")
            }
            // Only real root may boot a machine; its cgroups show whether it is that.
            Err(_) if Uid::effective().is_root() && fs::create_dir_all(CGROUPS).is_ok() => {
                Ok(Self::Systemd)
            }
            Err(_) => Ok(Self::Root),
        }
    }
}

/// A machine to update. It and all of its files go when this value is dropped, or when this process dies.
#[derive(Debug)]
pub struct Guest {
    kind: Kind,
    name: String,
    base: PathBuf,
    folder: PathBuf,
    elevation: Elevation,
    machine: Option<Child>,
    _lifeline: Lifeline,
}

impl Guest {
    /// Makes and boots a new machine of the best kind that can run here.
    ///
    /// `bento-client` is at /opt/bento/bin, the stand-in for nixpkgs at /srv/nixpkgs-stand-in.
    ///
    /// # Errors
    /// If it can't be made, or doesn't boot in time: then the error carries its console.
    pub fn boot() -> Result<Self> {
        Self::boot_as(Kind::here()?)
    }

    /// Makes and boots a new machine of one kind.
    ///
    /// # Errors
    /// As [`Guest::boot`].
    pub fn boot_as(kind: Kind) -> Result<Self> {
        namespace::check()?;
        if kind == Kind::Systemd && !Uid::effective().is_root() {
            bail!("only root can boot a guest with systemd: run this as root");
        }
        let elevation = Elevation::new()?;
        let base = base_tree()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bento-guest-{}-{number}", system::id());
        let folder = base::cache()?.join("guests").join(&name);
        // Tied first, so that a tree that is half made goes too.
        let lifeline = Lifeline::tie(&end(&elevation, &folder, &cgroup(&name), "remove"))?;
        let mut guest = Self {
            kind,
            name,
            base,
            folder,
            elevation,
            machine: None,
            _lifeline: lifeline,
        };
        guest.furnish().context("cannot make the tree of a guest")?;
        guest.start()?;
        Ok(guest)
    }

    /// What this guest is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Boots the machine after [`Guest::stop`] or [`Guest::cut_power`], from the same files.
    ///
    /// # Errors
    /// If it runs already, or doesn't boot in time: then the error carries its console.
    pub fn start(&mut self) -> Result<()> {
        if self.machine.is_some() {
            bail!("the guest {} runs already", self.name);
        }
        let console = File::create(self.console_path())?;
        let mut command = self.boot_command();
        command
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console);
        self.machine = Some(command.spawn().context("cannot start a guest")?);
        let started = self.await_boot();
        started.with_context(|| {
            format!(
                "the guest {} doesn't boot; its console: {}",
                self.name,
                self.console()
            )
        })
    }

    /// Shuts the machine down in order, as `systemctl poweroff` does.
    ///
    /// # Errors
    /// If it doesn't run, or is still up after half a minute.
    pub fn stop(&mut self) -> Result<()> {
        if self.kind == Kind::Root {
            return self.cut_power();
        }
        // The connection may be gone before the answer; what counts is that the machine ends.
        self.run(["systemctl", "poweroff"])?;
        let machine = self.machine.as_mut().context("the guest doesn't run")?;
        let ended = wait::until("the guest to power off", STOP_LIMIT, || {
            machine.try_wait().transpose()
        });
        ended.with_context(|| self.console())??;
        self.machine = None;
        Ok(())
    }

    /// Ends the machine at once, as if its plug were pulled; what it had written stays.
    ///
    /// # Errors
    /// If its processes can't be ended.
    pub fn cut_power(&mut self) -> Result<()> {
        let mut command = end(&self.elevation, &self.folder, &cgroup(&self.name), "keep");
        process::run(&mut command, process::SHORT)?.success()?;
        if let Some(mut machine) = self.machine.take() {
            machine.wait()?;
        }
        Ok(())
    }

    /// Restarts the machine and waits until it is up again.
    ///
    /// # Errors
    /// As [`Guest::stop`] and [`Guest::start`].
    pub fn reboot(&mut self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Names this boot; another boot of the same guest has another name.
    ///
    /// # Errors
    /// If the guest doesn't run.
    pub fn boot_id(&self) -> Result<String> {
        // The kernel's own is the same for all guests of kind root.
        Ok(match self.kind {
            Kind::Systemd => {
                self.run(["cat", "/proc/sys/kernel/random/boot_id"])?
                    .success()?
                    .stdout
            }
            Kind::Root => self.leader()?.to_string(),
        })
    }

    /// Waits until the machine, of its own accord, has been booted again since `boot_id`.
    ///
    /// # Errors
    /// If that doesn't happen within a minute.
    pub fn await_another_boot(&mut self, boot_id: &str) -> Result<()> {
        wait::until("the guest to boot again", BOOT_LIMIT, || {
            self.boot_id().ok().filter(|now| now != boot_id)
        })?;
        self.await_boot()
    }

    /// Runs a command as the guest's root, in an environment of a login and in the folder `/`.
    ///
    /// # Errors
    /// If the guest doesn't run, or the command is still running after [`process::LONG`].
    pub fn run<I>(&self, command: I) -> Result<Output>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        process::run(&mut self.command(command)?, process::LONG)
    }

    /// Runs a shell script as the guest's root; it stops at the first command that fails.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn shell(&self, script: &str) -> Result<Output> {
        self.run(["sh", "-ec", script])
    }

    /// The command that runs a command in the guest, for callers with wishes of their own.
    ///
    /// # Errors
    /// If the guest doesn't run.
    pub fn command<I>(&self, command: I) -> Result<Command>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let leader = self.leader()?.to_string();
        let mut entered = match self.kind {
            Kind::Systemd => {
                // In the guest's cgroup, so that it ends when the guest does.
                let mut shell = Command::new("sh");
                let join = r#"echo $$ >"$1"; shift; exec "$@""#;
                shell.args(["-ec", join, "sh"]);
                shell.arg(cgroup(&self.name).join("visitors/cgroup.procs"));
                shell.args(["nsenter", "--target", &leader, "--all"]);
                shell
            }
            Kind::Root => {
                let mut nsenter = self.elevation.command("nsenter");
                nsenter.args(["--target", &leader, "--mount", "--pid", "--uts", "--ipc"]);
                nsenter
            }
        };
        entered
            .args(["env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8"])
            .arg("PATH=/opt/bento/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(command);
        Ok(entered)
    }

    /// Writes a file in the guest, and the folders that lead to it. `mode` is as for chmod, e.g. `"600"`.
    ///
    /// # Errors
    /// If the guest doesn't run, or the file can't be written.
    pub fn put_file(&self, path: &str, mode: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let mut command = self.command(["install", "-D", "-m", mode, "/dev/stdin", path])?;
        process::run_with_input(&mut command, content.as_ref(), process::SHORT)?.success()?;
        Ok(())
    }

    /// Reads a file in the guest.
    ///
    /// # Errors
    /// If the guest doesn't run, or the file can't be read.
    pub fn read_file(&self, path: &str) -> Result<String> {
        Ok(self.run(["cat", path])?.success()?.stdout)
    }

    /// All that the machine has printed on its console since it was started.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read_to_string(self.console_path()).unwrap_or_default()
    }

    fn console_path(&self) -> PathBuf {
        self.folder.join("console")
    }

    /// Lays what is this guest's own over the base tree.
    fn furnish(&self) -> Result<()> {
        for folder in [
            "work",
            "root",
            "upper/etc",
            "upper/opt/bento/bin",
            "upper/srv",
        ] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        let upper = self.folder.join("upper");
        // Without one, systemd takes this for a first boot and asks for a root password.
        let machine_id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
        fs::write(upper.join("etc/machine-id"), machine_id)?;
        fs::write(upper.join("etc/hostname"), format!("{}\n", self.name))?;
        fs::copy(
            artifacts::binary("bento-client")?,
            upper.join("opt/bento/bin/bento-client"),
        )?;
        let mut copy = Command::new("cp");
        copy.args(["--recursive", "--no-dereference"])
            .arg(artifacts::repository().join("tests/nixpkgs-stand-in"))
            .arg(upper.join("srv"));
        process::run(&mut copy, process::SHORT)?.success()?;
        Ok(())
    }

    fn boot_command(&self) -> Command {
        let mut command = self.elevation.command("sh");
        // The process that holds the guest; `end.sh` finds it by this file.
        let hold = r#"[ -z "$1" ] || echo $$ >"$1"; shift; exec "$@""#;
        command.args(["-ec", hold, "sh"]);
        match self.kind {
            Kind::Systemd => {
                command.args(["", "unshare", "--mount", "--propagation", "slave"]);
                command.args(["sh", "-c", BOOT_SYSTEMD, "sh"]);
                command.args([&self.folder, &self.base, &cgroup(&self.name)]);
            }
            Kind::Root => {
                command.arg(self.folder.join("keeper"));
                command.args([
                    "unshare",
                    "--mount",
                    "--propagation",
                    "slave",
                    "--uts",
                    "--ipc",
                ]);
                command.args(["--pid", "--fork", "--kill-child"]);
                command.args(["sh", "-c", BOOT_ROOT, "sh"]);
                command.args([&self.folder, &self.base]);
            }
        }
        command.arg(&self.name);
        command
    }

    fn await_boot(&mut self) -> Result<()> {
        let mut state = String::new();
        wait::until("the guest to be up", BOOT_LIMIT, || {
            state = self.state().unwrap_or_else(|error| format!("{error:#}"));
            let ended = self.has_ended();
            (ended || ["running", "degraded"].contains(&state.as_str())).then_some(())
        })
        .with_context(|| state.clone())?;
        match state.as_str() {
            "running" => Ok(()),
            "degraded" => {
                let failed = self.run(["systemctl", "--failed", "--no-legend"])?;
                bail!("some of its units failed: {}", failed.stdout)
            }
            _ => Err(anyhow!("it ended before it was up")),
        }
    }

    /// How far the boot has come, in the words of `systemctl is-system-running`.
    fn state(&self) -> Result<String> {
        Ok(match self.kind {
            Kind::Systemd => self
                .run(["systemctl", "is-system-running"])?
                .stdout
                .trim()
                .to_owned(),
            // Until the root is the guest's, this machine's own tree would answer.
            Kind::Root => self
                .run(["cat", "/etc/hostname"])?
                .stdout
                .replace(&self.name, "running")
                .trim()
                .to_owned(),
        })
    }

    fn has_ended(&mut self) -> bool {
        self.machine
            .as_mut()
            .is_none_or(|machine| matches!(machine.try_wait(), Ok(Some(_))))
    }

    /// The process that is number 1 in the guest, by its number here.
    fn leader(&self) -> Result<u32> {
        let machine = self.machine.as_ref().context("the guest doesn't run")?;
        let mut family = vec![machine.id()];
        while let Some(process) = family.pop() {
            if is_first_of_a_namespace(process) {
                return Ok(process);
            }
            family.extend(children(process));
        }
        bail!("the guest {} has no first process yet", self.name)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The lifeline removes the rest; ended here, so that the child is waited for.
        self.cut_power().ok();
    }
}

fn cgroup(name: &str) -> PathBuf {
    Path::new(CGROUPS).join(name)
}

fn end(elevation: &Elevation, folder: &Path, cgroup: &Path, then: &str) -> Command {
    let mut command = elevation.command("sh");
    command
        .args(["-c", END, "sh"])
        .arg(folder)
        .arg(cgroup)
        .arg(then);
    command
}

fn is_first_of_a_namespace(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("NSpid:"))
        // One number for each nested namespace, the innermost last.
        .any(|numbers| numbers.split_whitespace().skip(1).last() == Some("1"))
}

fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}
