//! The real image in rootless podman, run with the command of the README.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self as system, Command};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::lifeline::Lifeline;
use crate::process::{self, Output};
use crate::{Podman, artifacts, wait};

/// The options that confine the container; the README's `podman run` says the same.
pub const CONFINEMENT: [&str; 5] = [
    "--read-only",
    "--cap-drop=all",
    "--cap-add=SETUID,SETGID,SYS_CHROOT,CHOWN,FOWNER,DAC_OVERRIDE,KILL",
    "--security-opt",
    "no-new-privileges",
];
/// The program in its container.
const BENTO: &str = "/usr/bin/bento";
/// The port on which the appliance listens in its container.
const PORT: u16 = 2222;
/// What the image is called in podman's store, with the archive's digest for a tag: tests that run
/// at once never run different images under one name.
const REPOSITORY: &str = "localhost/bento-tests";
/// It should be ready within a second; a machine that is busy with other tests needs more.
const READY_LIMIT: Duration = Duration::from_secs(30);

static COUNT: AtomicU32 = AtomicU32::new(1);
static LOADED: Mutex<Option<String>> = Mutex::new(None);

/// How an appliance differs from the one that the README starts.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The container's name; by default one that nothing else has.
    pub name: Option<String>,
    /// The port on 127.0.0.1; by default one that is free.
    pub port: Option<u16>,
    /// More options for `podman run`.
    pub podman: Vec<String>,
    /// The options that confine it, instead of [`CONFINEMENT`].
    pub confinement: Option<Vec<String>>,
    /// Whether it gets no volume at /state.
    pub stateless: bool,
    /// Arguments for the image instead of its own, e.g. `["serve", "--log-format", "json"]`.
    pub command: Vec<String>,
    /// Another image of podman's store than the one that was built here.
    pub image: Option<String>,
    /// Another appliance's name, for its state instead of one of its own.
    pub state_of: Option<String>,
    /// A folder of podman's user for its state, instead of a volume of podman's.
    pub state: Option<PathBuf>,
    /// The socket that systemd would give podman, which then lets the container send to it.
    pub notify_socket: Option<PathBuf>,
}

/// A running appliance. The container and its state go when this value is dropped, or when this
/// process dies, unless it is kept.
#[derive(Debug)]
pub struct Appliance {
    podman: Podman,
    name: String,
    port: u16,
    state: Option<PathBuf>,
    lifeline: Option<Lifeline>,
    /// Its first process, as long as that lives.
    process: Mutex<Option<Pid>>,
    /// The file that podman writes its log to.
    log: OnceLock<PathBuf>,
}

impl Appliance {
    /// Starts the image over a fleet folder and waits until `bento health` succeeds in it.
    ///
    /// # Errors
    /// If the image hasn't been built, the container can't be started, or it isn't healthy in half
    /// a minute: then the error carries its log.
    pub fn start(fleet: &Path, options: Options) -> Result<Self> {
        let appliance = Self::launch(fleet, options)?;
        appliance.await_health()?;
        Ok(appliance)
    }

    /// Starts the image over a fleet folder and waits for nothing.
    ///
    /// # Errors
    /// If the image hasn't been built, or podman can't start the container.
    pub fn launch(fleet: &Path, options: Options) -> Result<Self> {
        let podman = Podman::new()?;
        let image = options.image.map_or_else(|| load(&podman), Ok)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = options
            .name
            .unwrap_or_else(|| format!("bento-test-{}-{number}", system::id()));
        let port = options.port.map_or_else(free_port, Ok)?;
        let lifeline = Lifeline::tie(&removal(&podman, &name))?;
        let appliance = Self {
            podman,
            name,
            port,
            state: options.state,
            lifeline: Some(lifeline),
            process: Mutex::default(),
            log: OnceLock::new(),
        };
        let state = appliance
            .state
            .as_ref()
            .map(|folder| folder.display().to_string());
        let mut run = vec!["run".to_owned(), "--detach".to_owned()];
        let usual = || CONFINEMENT.map(str::to_owned).to_vec();
        run.extend(options.confinement.unwrap_or_else(usual));
        run.extend(
            appliance
                .podman
                .run_options()
                .iter()
                .map(ToString::to_string),
        );
        run.extend([
            format!("--name={}", appliance.name),
            format!("--publish=127.0.0.1:{port}:{PORT}"),
            format!("--volume={}:/config:ro", fleet.display()),
        ]);
        if !options.stateless {
            let other = options.state_of.as_ref();
            let state = state.unwrap_or_else(|| volume(other.unwrap_or(&appliance.name)));
            run.push(format!("--volume={state}:/state"));
        }
        let mut podman = appliance.podman.command();
        if let Some(socket) = options.notify_socket {
            run.push("--sdnotify=container".to_owned());
            podman = appliance.podman.command_with("NOTIFY_SOCKET", &socket);
        }
        run.extend(options.podman);
        run.push(image);
        run.extend(options.command);
        process::run(podman.args(run), process::LONG)?.success()?;
        Ok(appliance)
    }

    /// An appliance whose container somebody else is about to start: from now on it goes as if it had
    /// been started here.
    ///
    /// # Errors
    /// If podman can't run here.
    pub fn adopt(name: &str, port: u16) -> Result<Self> {
        let podman = Podman::new()?;
        let lifeline = Lifeline::tie(&removal(&podman, name))?;
        Ok(Self {
            podman,
            name: name.to_owned(),
            port,
            state: None,
            lifeline: Some(lifeline),
            process: Mutex::default(),
            log: OnceLock::new(),
        })
    }

    /// The container's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port on 127.0.0.1 that leads to it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where clients on this machine connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Runs `bento` with arguments in the container, as `podman exec … bento …` does.
    ///
    /// # Errors
    /// If podman can't be run. A command that fails is no error here; see [`Output::success`].
    pub fn exec<I>(&self, arguments: I) -> Result<Output>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = self.podman.command();
        command.args(["exec", &self.name, "bento"]).args(arguments);
        process::run(&mut command, process::SHORT)
    }

    /// Runs `bento` with arguments in the namespaces of the container, without podman, whose `exec` takes half a second of
    /// a processor: for what is asked again and again.
    ///
    /// # Errors
    /// If the container doesn't run.
    pub fn enter<I>(&self, arguments: I) -> Result<Output>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = process.filter(|process| Path::new(&format!("/proc/{process}")).exists());
        let first = alive.map_or_else(|| self.first_process(), Ok)?;
        *process = Some(first);
        drop(process);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={first}"))
            .args(["--all", "--", BENTO])
            .args(arguments);
        process::run(&mut command, process::SHORT)
    }

    /// The document of `bento status --json`.
    ///
    /// # Errors
    /// If it fails, or doesn't print JSON.
    pub fn status_json(&self) -> Result<serde_json::Value> {
        let output = self.enter(["status", "--json"])?.success()?;
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("`bento status --json` printed: {}", output.stdout))
    }

    /// The server's public host key, as `bento host-key` prints it.
    ///
    /// # Errors
    /// If it fails.
    pub fn host_key(&self) -> Result<String> {
        Ok(self.exec(["host-key"])?.success()?.stdout.trim().to_owned())
    }

    /// All that the container has logged, over all of its starts: what `podman logs` shows, at a fraction of its cost.
    ///
    /// # Errors
    /// If there is no container, or its log can't be read.
    pub fn logs(&self) -> Result<String> {
        let path = match self.log.get() {
            Some(path) => path,
            None => {
                let format = "--format={{.HostConfig.LogConfig.Path}}";
                let path = self.podman.run(["inspect", format, &self.name])?;
                self.log.get_or_init(|| path.into())
            }
        };
        let log =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(log.lines().map(logged).collect())
    }

    /// Stops the container with TERM, as an administrator or a shutdown does, and gives its exit code.
    ///
    /// # Errors
    /// If podman fails.
    pub fn stop(&self) -> Result<i32> {
        self.podman.run(["stop", &self.name])?;
        self.exit_code()
    }

    /// Kills all of the container's processes at once, as a power cut would.
    ///
    /// # Errors
    /// If it doesn't run, or podman fails.
    pub fn kill_hard(&self) -> Result<()> {
        self.podman.run(["kill", "--signal=KILL", &self.name])?;
        self.exit_code().map(drop)
    }

    /// Starts the container again, with the same state, and waits for nothing.
    ///
    /// # Errors
    /// If podman fails.
    pub fn start_again(&self) -> Result<()> {
        self.podman.run(["start", &self.name]).map(drop)
    }

    /// The ids that the container's root has on this machine.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        let (user, group) = self.podman.ids();
        (user.as_raw(), group.as_raw())
    }

    /// Starts the container again, with the same state, and waits until it is healthy. One that
    /// still runs is stopped first.
    ///
    /// # Errors
    /// As [`Appliance::start`].
    pub fn restart(&self) -> Result<()> {
        self.podman.run(["restart", &self.name])?;
        self.await_health()
    }

    /// The container's first process, by its number here.
    ///
    /// # Errors
    /// If podman doesn't answer.
    pub fn first_process(&self) -> Result<Pid> {
        let number = self
            .podman
            .run(["inspect", "--format={{.State.Pid}}", &self.name])?;
        Ok(Pid::from_raw(number.parse()?))
    }

    /// What the appliance sees as /state, as a folder of this machine.
    ///
    /// # Errors
    /// If podman doesn't answer.
    pub fn state_folder(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.state {
            return Ok(folder.clone());
        }
        let volume = volume(&self.name);
        let inspect = ["volume", "inspect", "--format={{.Mountpoint}}", &volume];
        Ok(self.podman.run(inspect)?.into())
    }

    /// The folder of a machine in the state.
    ///
    /// # Errors
    /// If podman doesn't answer.
    pub fn host_folder(&self, name: &str) -> Result<PathBuf> {
        Ok(self.state_folder()?.join("hosts").join(name))
    }

    /// The reports of a machine, in the order of their receipt.
    ///
    /// # Errors
    /// If podman doesn't answer, or a report can't be read.
    pub fn reports(&self, name: &str) -> Result<Vec<serde_json::Value>> {
        let folder = self.host_folder(name)?.join("reports");
        let mut paths: Vec<_> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|it| it == "json"))
            .collect();
        paths.sort();
        let read = |path| -> Result<serde_json::Value> {
            let mut record: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
            Ok(record["content"]["report"].take())
        };
        paths.iter().map(read).collect()
    }

    /// Leaves the container running when this process ends.
    pub fn keep(mut self) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.cut();
        }
    }

    /// Removes a container that an earlier process kept, and its state; that there is none is no error.
    ///
    /// # Errors
    /// If podman fails.
    pub fn remove(name: &str) -> Result<()> {
        let podman = Podman::new()?;
        process::run(&mut removal(&podman, name), process::SHORT)?.success()?;
        Ok(())
    }

    /// Waits until the container has ended, and gives its exit code.
    ///
    /// # Errors
    /// If it is still running after [`process::LONG`].
    pub fn exit_code(&self) -> Result<i32> {
        let code = self.podman.run(["wait", &self.name])?;
        code.parse()
            .with_context(|| format!("podman calls {code:?} an exit code"))
    }

    /// Waits until `bento health` succeeds in it.
    ///
    /// # Errors
    /// If it ends, or doesn't become healthy in half a minute: then the error carries its log.
    pub fn await_health(&self) -> Result<()> {
        let mut last = Ok(());
        wait::until("the appliance to be healthy", READY_LIMIT, || {
            last = self.enter(["health"]).and_then(Output::success).map(drop);
            (last.is_ok() || !self.is_running()).then_some(())
        })
        .and(last)
        .with_context(|| {
            let log = self.logs().unwrap_or_else(|error| format!("{error:#}"));
            format!("the appliance {} isn't healthy; its log:\n{log}", self.name)
        })
    }

    fn is_running(&self) -> bool {
        self.podman
            .run(["inspect", "--format={{.State.Running}}", &self.name])
            .is_ok_and(|running| running == "true")
    }
}

/// The text of a line in podman's log files, after time, stream, and P if the line goes on in the next one or F if not.
fn logged(line: &str) -> String {
    let mut parts = line.splitn(4, ' ').skip(2);
    let end = if parts.next() == Some("P") { "" } else { "\n" };
    format!("{}{end}", parts.next().unwrap_or_default())
}

/// The image in podman's store, loaded from the archive unless just that archive was loaded before.
fn load(podman: &Podman) -> Result<String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = &*loaded {
        return Ok(image.clone());
    }
    let archive = artifacts::image()?;
    let content = fs::read(&archive)
        .with_context(|| format!("cannot read the image {}", archive.display()))?;
    let digest: String = Sha256::digest(content)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let image = format!("{REPOSITORY}:{digest}");
    if podman.run(["image", "exists", &image]).is_err() {
        let said = podman.load(&archive)?;
        let name = said
            .lines()
            .find_map(|line| line.strip_prefix("Loaded image: "))
            .with_context(|| format!("podman doesn't say what it loaded: {said}"))?;
        remove_older(podman)?;
        podman.run(["tag", name, &image])?;
    }
    *loaded = Some(image.clone());
    Ok(image)
}

/// Forgets the images of earlier builds; one that still runs is kept by podman itself.
fn remove_older(podman: &Podman) -> Result<()> {
    let names = podman.run(["images", "--format={{.Repository}}:{{.Tag}}", REPOSITORY])?;
    for name in names.lines() {
        podman.run(["rmi", name]).ok();
    }
    Ok(())
}

fn removal(podman: &Podman, name: &str) -> Command {
    let mut command = podman.as_user("sh");
    let remove = r#"podman rm --force --time=0 --ignore "$1"
        ! podman volume exists "$2" || podman volume rm "$2""#;
    command.args(["-c", remove, "sh", name, &volume(name)]);
    command
}

/// What the volume with an appliance's state is called.
#[must_use]
pub fn volume(name: &str) -> String {
    format!("{name}-state")
}

/// A port that nobody listens on, out of the range from which the kernel takes the ports of
/// outgoing connections. Each call of this process tries others.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (system::id() % 100) as u16 * 100;
    for _ in 0..100 {
        let port = 20_000 + start + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!(
        "none of the ports {start} to {} above 20000 is free",
        start + 99
    )
}
