//! Runs of Nix, with their errors and results.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bento_protocol::SystemPath;

use crate::command::flake_command;
use crate::error;
use crate::process::{self, Limited};
use crate::tail::Tail;

/// The error of a program that failed, with the essence of its output; none if it succeeded.
pub fn failure(program: &str, status: ExitStatus, said: &Tail) -> Option<anyhow::Error> {
    if status.success() {
        return None;
    }
    let essence = error::essence(said.lines());
    let is_killed = status.signal().is_some();
    Some(match (essence.is_empty(), is_killed) {
        (true, _) => anyhow!("{program} ended with {status}, without any output"),
        (false, true) => anyhow!("{program} ended with {status}: {essence}"),
        (false, false) => anyhow!("{essence}{}", caches(&essence).unwrap_or_default()),
    })
}

/// The configured caches, for an error that doesn't name the cache: Nix prints such an error if something else answers,
/// such as the login page of a network.
fn caches(essence: &str) -> Option<String> {
    if !essence.contains(".narinfo'") || essence.contains("://") {
        return None;
    }
    let settings = flake_command(&["show-config"]).output().ok()?;
    let settings = String::from_utf8(settings.stdout).ok()?;
    let line = |name| settings.lines().find_map(|line| line.strip_prefix(name));
    Some(format!("\nthe caches are {}", line("substituters = ")?))
}

/// Runs a command of Nix with a time limit.
///
/// # Errors
/// When it can't be run, takes longer, or fails, with the essence of its output.
pub fn run(
    command: Command,
    limit: Duration,
    tail: &mut Tail,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Earlier output, perhaps of another attempt, isn't the cause of this failure.
    let mut said = Tail::default();
    let limited = process::run_limited_alone(command, limit, &mut |text| {
        said.push(text);
        tail.push(text);
        line(text);
    })?;
    let status = match limited {
        Limited::Ended(status) => status,
        Limited::TimedOut => {
            // Finished derivations stay in the store, so the next attempt continues from there.
            bail!("{program} took longer than {limit:?}, and was ended: timeouts.build limits it");
        }
    };
    failure(&program, status, &said).map_or(Ok(()), Err)
}

/// The system at the result link of a build.
///
/// # Errors
/// When the link is missing, or leads to something else.
pub fn system(result: &Path) -> anyhow::Result<SystemPath> {
    let path = fs::canonicalize(result)
        .with_context(|| format!("the build left no result at {}", result.display()))?;
    let shown = path.display();
    if !path.join("bin/switch-to-configuration").is_file() {
        bail!("the result isn't a NixOS system: {shown} has no bin/switch-to-configuration");
    }
    let text = path
        .to_str()
        .with_context(|| format!("the path {shown} isn't text"))?;
    text.parse().map_err(anyhow::Error::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_command_that_hangs_is_ended() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo begun; exec sleep 1000"]);
        let mut tail = Tail::default();
        let hung = run(command, Duration::from_secs(1), &mut tail, &mut |_| {}).unwrap_err();
        let said = hung.to_string();
        assert!(
            said.contains("took longer than 1s, and was ended"),
            "{said}"
        );
        assert_eq!(tail.lines().collect::<Vec<_>>(), ["begun"]);
    }

    #[test]
    fn the_output_is_the_error_and_so_is_a_signal() {
        let mut tail = Tail::default();
        tail.push("error: unable to download 'https://a/x': HTTP error 503");
        let mut said = Vec::new();
        let mut fail = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            let line = &mut |line: &str| said.push(line.to_owned());
            let error = run(command, LONG, &mut tail, line).unwrap_err();
            error.to_string()
        };
        // The output of an earlier attempt isn't the cause of this failure.
        let own = fail("echo \"error: undefined variable 'pkgz'\" >&2; exit 1");
        assert_eq!(own, "error: undefined variable 'pkgz'");
        let killed = fail("echo \"error: undefined variable 'pkgz'\"; kill -9 $$");
        assert!(killed.contains("signal: 9"), "{killed}");
        let silent = fail("exit 3");
        assert!(silent.contains("without any output"), "{silent}");
        assert_eq!(said.len(), 2);
        assert_eq!(tail.lines().count(), 3);
    }
}
