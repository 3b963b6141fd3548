//! Clients that run while a test does something else, and what they wait for.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use bento_tests::process::Output;

use crate::env::ClientEnv;

/// What a script waits for until the test lets it go on.
pub(crate) struct Gate(PathBuf);

impl Gate {
    pub(crate) fn new(env: &ClientEnv) -> Self {
        Gate(env.path("gate"))
    }

    /// What to put into a script. It doesn't wait for ever: what isn't ended must end by itself.
    pub(crate) fn wait(&self) -> String {
        let gate = self.0.display();
        format!(
            "touch {gate}.reached; for _ in $(seq 1200); do [ -e {gate} ] && break; sleep 0.05; done"
        )
    }

    /// Waits until the script waits.
    pub(crate) fn await_arrival(&self) {
        let reached = self.0.with_extension("reached");
        wait_until("a script comes to the gate", || reached.exists());
    }

    pub(crate) fn open(&self) {
        fs::write(&self.0, "").unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Whatever waits ends soon, also if the test fails. The folder may be gone.
        let _ = fs::write(&self.0, "");
    }
}

/// A client that is carrying something out.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(child.spawn().unwrap()))
    }

    pub(crate) fn number(&self) -> u32 {
        self.child().id()
    }

    fn child(&self) -> &Child {
        self.0.as_ref().expect("it has ended")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child()), signal).unwrap();
    }

    /// Kills it, and nothing that it has started.
    pub(crate) fn kill(mut self) {
        let mut child = self.0.take().expect("it has ended");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Output {
        let child = self.0.take().expect("it has ended");
        Output::from(child.wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to be that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
