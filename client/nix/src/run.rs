//! Runs Nix, and tells what came of it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bento_protocol::SystemPath;

use crate::error;
use crate::process::{self, Limited};
use crate::tail::Tail;

/// Why there is no system.
#[derive(Debug)]
pub struct BuildError {
    /// What failed, and where.
    pub error: anyhow::Error,
    /// Whether the same may succeed later, though nothing changes in the generation.
    pub is_passing: bool,
}

impl BuildError {
    /// A failure that lies in the configuration itself.
    pub fn of_the_configuration(error: anyhow::Error) -> Self {
        BuildError {
            error,
            is_passing: false,
        }
    }

    /// What a program's end and its last words mean; none if it ended well.
    pub fn of_program(program: &str, status: ExitStatus, said: &Tail) -> Option<Self> {
        if status.success() {
            return None;
        }
        let essence = error::essence(said.lines());
        let is_killed = status.signal().is_some();
        Some(BuildError {
            error: match (essence.is_empty(), is_killed) {
                (true, _) => anyhow!("{program} ended with {status} and said nothing"),
                (false, true) => anyhow!("{program} ended with {status}: {essence}"),
                (false, false) => anyhow!("{essence}"),
            },
            is_passing: is_killed || error::is_passing(said.lines()),
        })
    }
}

/// An error of this machine: that of a disk or of a missing program is no fault of the generation.
impl From<anyhow::Error> for BuildError {
    fn from(error: anyhow::Error) -> Self {
        BuildError {
            error,
            is_passing: true,
        }
    }
}

/// Runs a command of Nix to its good end, if that comes within a time.
///
/// # Errors
/// When it can't be run, takes longer, or fails, with the essence of what it said.
pub fn run(
    command: Command,
    limit: Duration,
    tail: &mut Tail,
    line: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    // What was said before, perhaps by another attempt, is no reason of this one's.
    let mut said = Tail::default();
    let limited = process::run_limited_alone(command, limit, &mut |text| {
        said.push(text);
        tail.push(text);
        line(text);
    })?;
    let status = match limited {
        Limited::Ended(status) => status,
        Limited::TimedOut => {
            // What is built by then stays built: the next attempt goes on from there.
            return Err(anyhow!(
                "{program} took longer than {limit:?}, and was ended: timeouts.build limits it"
            )
            .into());
        }
    };
    BuildError::of_program(&program, status, &said).map_or(Ok(()), Err)
}

/// The system to which the link of a build leads.
///
/// # Errors
/// When it leads to nothing, or to something else.
pub fn system(result: &Path) -> Result<SystemPath, BuildError> {
    let path = fs::canonicalize(result)
        .with_context(|| format!("the build left no result at {}", result.display()))?;
    let shown = path.display();
    if !path.join("bin/switch-to-configuration").is_file() {
        return Err(BuildError::of_the_configuration(anyhow!(
            "what was built isn't a NixOS system: {shown} has no bin/switch-to-configuration"
        )));
    }
    let text = path
        .to_str()
        .with_context(|| format!("the path {shown} isn't text"))?;
    Ok(text.parse().map_err(anyhow::Error::new)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn what_hangs_is_ended_and_may_pass() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo begun; exec sleep 1000"]);
        let mut tail = Tail::default();
        let hung = run(command, Duration::from_secs(1), &mut tail, &mut |_| {}).unwrap_err();
        assert!(hung.is_passing, "{hung:?}");
        let said = hung.error.to_string();
        assert!(
            said.contains("took longer than 1s, and was ended"),
            "{said}"
        );
        assert_eq!(tail.lines().collect::<Vec<_>>(), ["begun"]);
    }

    #[test]
    fn what_is_said_decides_whether_it_may_pass_and_a_signal_always_may() {
        let mut tail = Tail::default();
        tail.push("error: unable to download 'https://a/x': HTTP error 503");
        let mut said = Vec::new();
        let mut fail = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            let line = &mut |line: &str| said.push(line.to_owned());
            run(command, LONG, &mut tail, line).unwrap_err()
        };
        let own = fail("echo \"error: undefined variable 'pkgz'\" >&2; exit 1");
        assert!(!own.is_passing, "{own:?}");
        assert_eq!(own.error.to_string(), "error: undefined variable 'pkgz'");
        assert!(fail("echo 'error: writing to file: No space left on device'; exit 1").is_passing);
        let killed = fail("echo \"error: undefined variable 'pkgz'\"; kill -9 $$");
        assert!(killed.is_passing, "{killed:?}");
        assert!(killed.error.to_string().contains("signal: 9"), "{killed:?}");
        let silent = fail("exit 3");
        assert!(!silent.is_passing, "{silent:?}");
        assert!(
            silent.error.to_string().contains("said nothing"),
            "{silent:?}"
        );
        assert_eq!(said.len(), 3);
        assert_eq!(tail.lines().count(), 4);
    }
}
