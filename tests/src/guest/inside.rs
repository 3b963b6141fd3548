//! Doing things inside a running guest.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::Result;

use super::{Guest, Kind, cgroup};
use crate::process::{self, Output};

impl Guest {
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
        let first = self.first_process()?.to_string();
        let mut entered = match self.kind {
            Kind::Systemd => {
                // In the guest's cgroup, so that it ends when the guest does.
                let mut shell = Command::new("sh");
                let join = r#"echo $$ >"$1"; shift; exec "$@""#;
                shell.args(["-ec", join, "sh"]);
                shell.arg(cgroup(&self.name).join("visitors/cgroup.procs"));
                shell.args(["nsenter", "--target", &first, "--all"]);
                shell
            }
            Kind::Root => {
                let mut nsenter = self.elevation.command("nsenter");
                nsenter.args(["--target", &first, "--mount", "--pid", "--uts", "--ipc"]);
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
}
