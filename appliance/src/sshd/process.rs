use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use bento_protocol::limits;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};

use super::log::Log;

/// The most files that one session can have open. sshd itself needs a dozen.
const OPEN_FILES: u64 = 256;

/// The sshd of one connection. The process that runs the sessions reaps it, see [`super::reap`].
#[derive(Debug)]
pub(super) struct Process {
    group: Pid,
    connection: TcpStream,
    pub(super) log: Log,
}

impl Process {
    /// Starts an sshd for a connection.
    pub(super) fn start(
        program: &Path,
        configuration: &Path,
        connection: &TcpStream,
    ) -> io::Result<Self> {
        let (log, theirs) = Log::open()?;
        let kept = connection.try_clone()?;
        let stream = || {
            connection
                .try_clone()
                .map(|socket| Stdio::from(OwnedFd::from(socket)))
        };
        // Without the appliance's environment, which isn't for sessions.
        let child = Command::new(program)
            .args(["-i", "-e", "-f"])
            .arg(configuration)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(stream()?)
            .stdout(stream()?)
            .stderr(theirs)
            .spawn()?;
        let process = Process {
            group: Pid::from_child(&child),
            connection: kept,
            log,
        };
        if let Err(error) = process.limit() {
            process.kill();
            return Err(error);
        }
        Ok(process)
    }

    /// Limits the session's use of the disk; sshd's children inherit the limits. This is in time: sshd can't have answered
    /// its client yet.
    fn limit(&self) -> io::Result<()> {
        let limits = [
            (Resource::Fsize, limits::REPORT_BYTES),
            (Resource::Core, 0),
            (Resource::Nofile, OPEN_FILES),
        ];
        for (resource, most) in limits {
            let limit = Rlimit {
                current: Some(most),
                maximum: Some(most),
            };
            match prlimit(Some(self.group), resource, limit) {
                // It has ended by itself already; its log has the cause.
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                result => _ = result?,
            }
        }
        Ok(())
    }

    /// Cuts the connection in both directions. That ends sshd and its children in any state: each reads the end of the
    /// connection, or of its pipe to the one that does. With signals, a KILL of the wrong one would leave a transfer
    /// running.
    pub(super) fn hang_up(&self) {
        // It may be cut already.
        let _ = self.connection.shutdown(Shutdown::Both);
    }

    /// Kills an sshd that doesn't notice that its connection is cut. Only while its log is open: as long as a process of
    /// the group is alive, the kernel doesn't reuse the number of the group.
    pub(super) fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Our copy of the socket must not outlive sshd's, and any other holder must lose it.
        self.hang_up();
    }
}
