//! Cleaning up that happens however the process ends, even by SIGKILL.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

/// Waits for its standard input to end, which it does when the process that holds the other end
/// does; then runs what it was given. The word `keep` calls it off.
const WATCH: &str = r#"trap '' INT TERM HUP; read -r word; [ "$word" = keep ] || exec "$@""#;

/// A small process that outlives this one just long enough to run one command.
#[derive(Debug)]
pub(crate) struct Lifeline {
    watcher: Child,
    pipe: Option<ChildStdin>,
}

impl Lifeline {
    /// Arms `cleanup`: it runs when this value is dropped, or when this process dies.
    ///
    /// # Errors
    /// If no process can be started.
    pub(crate) fn tie(cleanup: &Command) -> Result<Self> {
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCH, "sh"])
            .arg(cleanup.get_program())
            .args(cleanup.get_args())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of a Ctrl-C, and of a `kill` of the test's process group.
            .process_group(0);
        let mut watcher = command
            .spawn()
            .context("cannot start a watcher for cleaning up")?;
        let pipe = watcher.stdin.take();
        Ok(Self { watcher, pipe })
    }

    /// Calls the cleanup off.
    pub(crate) fn cut(mut self) {
        if let Some(pipe) = &mut self.pipe {
            pipe.write_all(b"keep\n").ok();
        }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.watcher.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn touch(path: &Path) -> Command {
        let mut command = Command::new("touch");
        command.arg(path);
        command
    }

    #[test]
    fn cleans_up_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let lifeline = Lifeline::tie(&touch(&trace)).unwrap();
        assert!(!trace.exists());
        drop(lifeline);
        assert!(trace.exists());
    }

    #[test]
    fn can_be_called_off() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        Lifeline::tie(&touch(&trace)).unwrap().cut();
        assert!(!trace.exists());
    }
}
