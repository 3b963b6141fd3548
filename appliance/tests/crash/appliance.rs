//! The real binary, as a process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bento_appliance::store::paths::State;
use bento_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::env::CrashEnv;

/// An appliance that can be started, and dies.
pub struct Appliance<'a> {
    pub env: &'a CrashEnv,
    /// The fleet folder.
    pub config: PathBuf,
    /// Its state.
    pub state: State,
}

/// A running appliance. Dropped, it is killed.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl<'a> Appliance<'a> {
    pub fn new(env: &'a CrashEnv, config: &Path, state: impl Into<PathBuf>) -> Self {
        Appliance {
            env,
            config: config.to_owned(),
            state: State::new(state),
        }
    }

    /// The command that starts it, as a process that first stops itself.
    pub fn halted(&self) -> Command {
        let runtime = self.env.runtime();
        // As when a container starts.
        if runtime.root().exists() {
            fs::remove_dir_all(runtime.root()).unwrap();
        }
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_bento"))
            .args(["serve", "--listen", "127.0.0.1:2222", "--config"])
            .arg(&self.config)
            .arg("--state")
            .arg(self.state.root())
            .arg("--runtime")
            .arg(runtime.root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.log()).unwrap())
            .process_group(0);
        command
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let mut command = self.halted();
        let child = command.spawn().unwrap();
        let running = Running {
            child,
            log: self.log(),
        };
        waitpid(running.id(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        kill(running.id(), Signal::SIGCONT).unwrap();
        running
    }

    /// Runs it until everything is done, and kills it.
    pub fn run_until_ready(&self) {
        self.start().await_event("ready");
    }

    fn log(&self) -> PathBuf {
        self.env.path("log")
    }

    /// The log of the last one.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }
}

/// An event of a log.
pub struct Event<'a>(&'a str);

/// All events of one kind in a log.
pub fn events<'a>(log: &'a str, event: &str) -> Vec<Event<'a>> {
    let texts = log
        .lines()
        .filter_map(|line| Some(line.split_once("INFO ")?.1));
    texts
        .filter(|text| text.starts_with(event))
        .map(Event)
        .collect()
}

impl Event<'_> {
    /// Its fields, as `name=value`.
    pub fn field(&self, name: &str) -> String {
        let mut fields = self.0.split(' ').filter_map(|word| word.split_once('='));
        let (_, value) = fields.find(|(field, _)| *field == name).unwrap();
        value.to_owned()
    }
}

impl Running {
    /// Waits for an event.
    pub fn await_event(&self, event: &str) {
        let log = || fs::read_to_string(&self.log).unwrap();
        wait::expect(&format!("{event} in its log"), || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
            let ended = status.is_ok_and(|status| status.contains("State:\tZ"));
            assert!(!ended, "it ended: {}", log());
            (!events(&log(), event).is_empty()).then_some(())
        });
    }

    /// Its process.
    pub fn id(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
