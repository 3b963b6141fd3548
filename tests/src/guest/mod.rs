//! A whole machine to update: Debian with real systemd and real Nix, booted by systemd-nspawn.
//!
//! A guest has a writable tree of its own over one common base tree, so that making one costs next
//! to nothing. Unless it is asked for one of its own, it shares the network of this machine: the
//! appliance is at 127.0.0.1 for it too. Its Nix needs no network.

mod base;
mod clock;
mod disk;
mod elevation;
mod family;
mod features;
mod halt;
mod inside;
mod kind;
mod leftovers;
mod network;
mod provision;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self as system, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, Uid};

pub use base::{base_tree, cache};
pub use disk::Disk;
use elevation::Elevation;
pub use features::Features;
pub use halt::Halted;
pub use kind::Kind;

use crate::lifeline::Lifeline;
use crate::{namespace, process, wait};

/// A shell command that prints the leftovers of an unfinished update, one a line: files, locks and inhibitors.
pub const UNDONE: &str = r#"
    cd /var/lib/bento
    for file in transaction.json awaiting.json activation.log previous reserve switching armed/* *.partial* *.new .??*; do
        [ ! -e "$file" -a ! -L "$file" ] || echo "file $file"
    done
    for lock in lock rollback.lock /run/nixos/switch-to-configuration.lock; do
        [ ! -e $lock ] || flock --nonblock $lock true || echo "lock $lock"
    done
    systemd-inhibit --list --no-legend --no-pager | grep bento || true
"#;

/// Booting takes half a second; a machine that is busy with other tests needs more.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// A unit that doesn't stop keeps a machine that is busy with other tests from going down for 90 s.
const REBOOT_LIMIT: Duration = Duration::from_secs(180);
/// systemd gives a unit 90 s to stop; no unit of a guest should need more than a moment.
const STOP_LIMIT: Duration = Duration::from_secs(30);

const BOOT_SYSTEMD: &str = concat!(include_str!("tree.sh"), include_str!("systemd.sh"));
const BOOT_ROOT: &str = concat!(include_str!("tree.sh"), include_str!("root.sh"));
const END: &str = include_str!("end.sh");
/// Notes which process holds the guest, for `end.sh` and [`Guest::find`]: its number, and its start
/// time, because numbers are given again.
const HOLD: &str = r#"
    stat=$(cat "/proc/$$/stat")
    fields=${stat##*) }
    echo "$$ $(echo "$fields" | cut -d ' ' -f 20)" >"$1"
    shift
    exec "$@"
"#;

static COUNT: AtomicU32 = AtomicU32::new(1);

/// A machine to update. It and all of its files go when this value is dropped, or when this process
/// dies, unless it is kept.
#[derive(Debug)]
pub struct Guest {
    kind: Kind,
    features: Features,
    name: String,
    base: PathBuf,
    folder: PathBuf,
    elevation: Elevation,
    machine: Option<Child>,
    lifeline: Option<Lifeline>,
}

impl Guest {
    /// Makes and boots a new machine of the best kind that can run here.
    ///
    /// In it are `bento-client` and the stand-in for nixpkgs, where that one's README says.
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
        Self::make(kind, Features::default(), &unused_name())
    }

    /// Makes and boots a new machine with systemd, and with more than others have.
    ///
    /// # Errors
    /// As [`Guest::boot`], and if this isn't root.
    pub fn boot_with(features: Features) -> Result<Self> {
        Self::make(Kind::Systemd, features, &unused_name())
    }

    /// Makes and boots a new machine of one kind and with a host name of its own.
    ///
    /// # Errors
    /// As [`Guest::boot`], or if there is a guest of that name.
    pub fn boot_named(kind: Kind, name: &str) -> Result<Self> {
        Self::make(kind, Features::default(), name)
    }

    fn make(kind: Kind, features: Features, name: &str) -> Result<Self> {
        namespace::check()?;
        if kind == Kind::Systemd && !Uid::effective().is_root() {
            bail!("only root can boot a guest with systemd: run this as root");
        }
        let elevation = Elevation::new()?;
        let base = base_tree()?;
        let folder = folder(name)?;
        if folder.exists() {
            bail!("there is a guest {name} already: {}", folder.display());
        }
        // Tied first, so that a tree that is half made goes too.
        let lifeline = Lifeline::tie(&end(&elevation, &folder, &cgroup(name), "remove"))?;
        let mut guest = Self {
            kind,
            features,
            name: name.to_owned(),
            base,
            folder,
            elevation,
            machine: None,
            lifeline: Some(lifeline),
        };
        guest
            .provision()
            .context("cannot make the tree of a guest")?;
        guest.start()?;
        Ok(guest)
    }

    /// The guest of that name that an earlier process kept. It can be used, and goes when it is removed.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(name: &str) -> Result<Self> {
        namespace::check()?;
        let guest = Self {
            kind: if cgroup(name).exists() {
                Kind::Systemd
            } else {
                Kind::Root
            },
            features: Features::default(),
            name: name.to_owned(),
            base: base_tree()?,
            folder: folder(name)?,
            elevation: Elevation::new()?,
            machine: None,
            lifeline: None,
        };
        guest.keeper()?;
        Ok(guest)
    }

    /// Leaves the machine running when this process ends.
    pub fn keep(mut self) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.cut();
        }
    }

    /// Removes a guest that an earlier process kept, and its files. False if there is none.
    ///
    /// # Errors
    /// If something of it can't be ended or removed.
    pub fn remove(name: &str) -> Result<bool> {
        let folder = folder(name)?;
        if !folder.exists() {
            return Ok(false);
        }
        let mut command = end(&Elevation::new()?, &folder, &cgroup(name), "remove");
        process::run(&mut command, process::SHORT)?.success()?;
        Ok(true)
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
            .stderr(console)
            // A Ctrl-C is for this process, which may mean to keep the machine.
            .process_group(0);
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

    /// Shuts the machine down in order, as `systemctl poweroff` does for somebody who insists.
    ///
    /// # Errors
    /// If it doesn't run, or is still up after half a minute.
    pub fn stop(&mut self) -> Result<()> {
        if self.kind == Kind::Root {
            return self.cut_power();
        }
        // The connection may be gone before the answer; what counts is that the machine ends.
        // Of systemd itself, because logind asks who would rather not.
        let mode = "--job-mode=replace-irreversibly";
        self.run(["systemctl", "start", "--no-block", mode, "poweroff.target"])?;
        let cgroup = cgroup(&self.name);
        let machine = self.machine.as_mut().context("the guest doesn't run")?;
        let ended = wait::until("the guest to power off", STOP_LIMIT, || {
            wake_visitors(&cgroup);
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
            // Read from here: a command in a guest that is going down is stopped with all of its processes.
            Kind::Systemd => fs::read_to_string(format!(
                "/proc/{}/root/proc/sys/kernel/random/boot_id",
                self.first_process()?
            ))?,
            Kind::Root => self.first_process()?.to_string(),
        })
    }

    /// Waits until the machine, of its own accord, has been booted again since `boot_id`.
    ///
    /// # Errors
    /// If that doesn't happen within three minutes: then the error carries its console.
    pub fn await_another_boot(&mut self, boot_id: &str) -> Result<()> {
        let cgroup = cgroup(&self.name);
        let booted = wait::until("the guest to boot again", REBOOT_LIMIT, || {
            wake_visitors(&cgroup);
            self.boot_id().ok().filter(|now| now != boot_id)
        });
        booted.with_context(|| format!("the console of {}: {}", self.name, self.console()))?;
        self.await_boot()
    }

    /// All that the machine has printed on its console since it was started.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read_to_string(self.console_path()).unwrap_or_default()
    }

    fn console_path(&self) -> PathBuf {
        self.folder.join("console")
    }

    fn boot_command(&self) -> Command {
        let mut command = self.elevation.command("sh");
        command.args(["-ec", HOLD, "sh"]);
        command.arg(self.keeper_path());
        match self.kind {
            Kind::Systemd => {
                command.args(["unshare", "--mount", "--propagation", "slave"]);
                command.args(["sh", "-c", BOOT_SYSTEMD, "sh"]);
                command.args([&self.folder, &self.base, &cgroup(&self.name)]);
            }
            Kind::Root => {
                command.args(["unshare", "--mount", "--propagation", "slave"]);
                command.args(["--uts", "--ipc", "--pid", "--fork", "--kill-child"]);
                command.args(["sh", "-c", BOOT_ROOT, "sh"]);
                command.args([&self.folder, &self.base]);
            }
        }
        command.arg(&self.name);
        command
    }

    /// Waits until the boot is done. That a unit has failed is for the tests to judge.
    fn await_boot(&mut self) -> Result<()> {
        let mut up = false;
        wait::until("the guest to be up", BOOT_LIMIT, || {
            up = self.is_up();
            (up || self.has_ended()).then_some(())
        })?;
        up.then_some(()).context("it ended before it was up")
    }

    fn is_up(&self) -> bool {
        let (question, answers): (_, &[&str]) = match self.kind {
            Kind::Systemd => (["systemctl", "is-system-running"], &["running", "degraded"]),
            // Until the guest has its own root, this machine's answers.
            Kind::Root => (["cat", "/etc/hostname"], &[&self.name]),
        };
        self.run(question)
            .is_ok_and(|output| answers.contains(&output.stdout.trim()))
    }

    fn has_ended(&mut self) -> bool {
        self.machine
            .as_mut()
            .is_none_or(|machine| matches!(machine.try_wait(), Ok(Some(_))))
    }

    /// The process that is number 1 in the guest, by its number here.
    fn first_process(&self) -> Result<u32> {
        family::first_of_a_namespace(self.keeper()?)
            .with_context(|| format!("the guest {} has no first process yet", self.name))
    }

    /// The process that holds the machine, by its number here.
    fn keeper(&self) -> Result<u32> {
        let note = fs::read_to_string(self.keeper_path()).unwrap_or_default();
        note.trim()
            .split_once(' ')
            .and_then(|(number, start)| Some((number.parse().ok()?, start)))
            // Another process may have its number by now.
            .filter(|(number, start)| family::start_time(*number).as_deref() == Some(*start))
            .map(|(number, _)| number)
            .with_context(|| format!("the guest {} doesn't run", self.name))
    }

    fn keeper_path(&self) -> PathBuf {
        self.folder.join("keeper")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.lifeline.is_some() {
            // The lifeline removes the rest; ended here, so that the child is waited for.
            self.cut_power().ok();
        }
    }
}

/// systemd stops every process for a moment before it ends them all, and nsenter stops itself when its command stops;
/// until it goes on, the command's end isn't noticed, and the guest waits for it.
fn wake_visitors(cgroup: &Path) {
    let visitors = fs::read_to_string(cgroup.join("visitors/cgroup.procs")).unwrap_or_default();
    for process in visitors.lines() {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        if let (Ok(process), "nsenter") = (process.parse(), name.trim()) {
            signal::kill(Pid::from_raw(process), Signal::SIGCONT).ok();
        }
    }
}

fn unused_name() -> String {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("bento-guest-{}-{number}", system::id())
}

fn folder(name: &str) -> Result<PathBuf> {
    Ok(base::cache()?.join("guests").join(name))
}

fn cgroup(name: &str) -> PathBuf {
    Path::new(kind::CGROUPS).join(name)
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
