//! Exit codes and failures of a command.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Reason of an exit of `bento-client`, with its exit code, which is a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitReason {
    /// Done, or nothing to do. A report that still waits for delivery is only a warning.
    Done = 0,
    /// The rebuild failed, or this generation is known to have failed.
    RebuildFailed = 1,
    /// Wrong usage, or a configuration that can't be used. The command line's parser exits with this code, too.
    Usage = 2,
    /// Rolled back, or the rollback failed.
    RolledBack = 3,
    /// No usable server, that is, one that is reachable, has the pinned key, accepts this machine and has a generation
    /// for it. That is transient, and doesn't fail the systemd unit.
    Server = 4,
    /// Another run holds the lock.
    Locked = 5,
    /// The server's data doesn't verify.
    Unverified = 6,
}

impl From<ExitReason> for ExitCode {
    fn from(reason: ExitReason) -> ExitCode {
        ExitCode::from(reason as u8)
    }
}

/// The failure of a command: its error and its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub reason: ExitReason,
    /// The error, with its place and advice.
    pub error: anyhow::Error,
}

impl Failure {
    /// Whether it failed for missing permissions that root has.
    pub fn lacks_rights(&self) -> bool {
        let is_denied = |error: &(dyn std::error::Error + 'static)| {
            let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
            io == Some(io::ErrorKind::PermissionDenied)
        };
        let is_denied =
            self.error.chain().any(is_denied) || format!("{self}").contains("Permission denied");
        is_denied && !rustix::process::geteuid().is_root()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.error)
    }
}

/// Adds an exit code to an error.
pub trait Because<T> {
    /// The same result, with the reason for the exit.
    fn because(self, reason: ExitReason) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Because<T> for Result<T, E> {
    fn because(self, reason: ExitReason) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            reason,
            error: error.into(),
        })
    }
}
