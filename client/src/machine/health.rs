//! Finds out whether the system that runs does what it is for.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use bento_nix::process::{self, Limited};

use crate::settings::Health;

/// Folder of programs that check the health of a system: in `required/` those without which it doesn't stay, in
/// `wanted/` those that only warn.
pub const HEALTH_FOLDER: &str = "etc/bento/health.d";

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check's name in the settings, or its path below the folder of checks, such as `required/10-web`.
    pub name: String,
    /// Whether a system that fails it is rolled back.
    pub is_required: bool,
    /// The problem: its exit, and the last lines of its output.
    pub problem: String,
}

/// Number of the last lines of a check's output that go into its finding.
const LINES: usize = 10;
/// Longest part of each line, in characters.
const LINE_CHARACTERS: usize = 500;

/// Carries out the checks of the settings in their order, and then every program in `required/` and in `wanted/` of
/// `folder`, each in the order of its bytes; gives those that failed. What they write is passed to `line`, each line
/// with the check's name before it.
///
/// In the folder, names that begin with a dot don't count. Anything else that can't be run as it is fails: somebody
/// relies on it, and it would check nothing.
pub fn check(health: &Health, folder: &Path, line: &mut dyn FnMut(&str)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |name: String, is_required, result: Result<(), String>| {
        findings.extend(result.err().map(|problem| Finding {
            name,
            is_required,
            problem,
        }));
    };
    for check in &health.checks {
        let mut command = Command::new(check.command.program());
        command.args(check.command.arguments());
        let limit = check.timeout.unwrap_or(health.timeout).duration();
        let name = check.name.to_string();
        let result = run(&name, command, limit, line);
        add(name, check.required, result.map_err(Problem::into_text));
    }
    for (part, is_required) in [("required", true), ("wanted", false)] {
        let folder = folder.join(part);
        let names = names_in(&folder).unwrap_or_else(|error| {
            let problem = format!("can't list {}: {error}", folder.display());
            add(part.to_owned(), is_required, Err(problem));
            Vec::new()
        });
        for file_name in names {
            let name = format!("{part}/{}", file_name.display());
            let result = program(&folder.join(file_name)).and_then(|command| {
                let limit = health.timeout.duration();
                run(&name, command, limit, line).map_err(Problem::into_text)
            });
            add(name, is_required, result);
        }
    }
    findings
}

/// The names in a folder, in the order of their bytes; none if it isn't there.
fn names_in(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    names.sort();
    Ok(names)
}

/// The program at a path, or why it is none.
fn program(path: &Path) -> Result<Command, String> {
    let shown = path.display();
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    if name.ends_with(b"~") || (name.starts_with(b"#") && name.ends_with(b"#")) {
        return Err(format!("{shown} is what an editor left: remove it"));
    }
    let metadata = fs::metadata(path).map_err(|error| format!("can't read {shown}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{shown} isn't a file: only programs belong there"));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!(
            "{shown} isn't executable: `chmod +x` it, or remove it"
        ));
    }
    Ok(Command::new(path))
}

/// Exit of a program that should have succeeded, and its last output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    text: String,
    /// Whether it was ended because its time was over.
    pub(crate) timed_out: bool,
}

impl Problem {
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// Runs a program that should succeed. What it writes is passed to `line`, each line with the `name` before it.
pub(crate) fn run(
    name: &str,
    command: Command,
    limit: Duration,
    line: &mut dyn FnMut(&str),
) -> Result<(), Problem> {
    let mut last = VecDeque::new();
    let ended = process::run_limited(command, limit, &mut |text| {
        line(&format!("{name}: {text}"));
        if last.len() == LINES {
            last.pop_front();
        }
        last.push_back(text.chars().take(LINE_CHARACTERS).collect::<String>());
    });
    let timed_out = matches!(ended, Ok(Limited::TimedOut));
    let how = match ended {
        Ok(Limited::Ended(status)) if status.success() => return Ok(()),
        Ok(Limited::Ended(status)) => end(status),
        Ok(Limited::TimedOut) => format!("timed out after {} s", limit.as_secs()),
        Err(error) => format!("{error:#}"),
    };
    let said = last.iter().map(|text| format!("\n> {text}"));
    Err(Problem {
        text: how + &said.collect::<String>(),
        timed_out,
    })
}

fn end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::settings::Settings;

    fn settings(more: &str) -> Health {
        let text = format!(
            "name = \"kikimora\"\n{more}\n[[servers]]\naddress = \"a\"\nhost_keys = [\"ssh-ed25519 \
             AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti\"]\n"
        );
        Settings::parse(&text).unwrap().health
    }

    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for part in ["required", "wanted"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        folder
    }

    /// Written by another process: as long as any process has a program open for writing, none can run it, and what
    /// another test starts at this moment has all that is open here.
    fn add(folder: &Path, name: &str, mode: &str, content: &str) {
        let written = Command::new("/bin/sh")
            .args(["-c", "printf %s \"$2\" > \"$0\" && chmod \"$1\" \"$0\""])
            .arg(folder.join(name))
            .args([mode, content])
            .status();
        assert!(written.unwrap().success());
    }

    fn checked(health: &Health, folder: &Path) -> (Vec<Finding>, Vec<String>) {
        let mut lines = Vec::new();
        let findings = check(health, folder, &mut |line| lines.push(line.to_owned()));
        (findings, lines)
    }

    #[test]
    fn the_settings_checks_come_first_and_failures_say_what_was_written() {
        let health = settings(
            r#"
            [health]
            timeout = "10m"
            [[health.checks]]
            name = "good"
            command = ["sh", "-c", "echo $0", "fine"]
            [[health.checks]]
            name = "bad"
            command = ["sh", "-c", "seq 20; exit 7"]
            [[health.checks]]
            name = "ended"
            command = ["sh", "-c", "kill -9 $$"]
            required = false
            [[health.checks]]
            name = "slow"
            command = ["sh", "-c", "echo waiting; exec sleep 1000"]
            timeout = "2s"
            [[health.checks]]
            name = "missing"
            command = ["bento-has-no-such-program"]
            "#,
        );
        let (findings, lines) = checked(&health, Path::new("/nonexistent"));
        assert_eq!(lines[..2], ["good: fine", "bad: 1"]);
        assert_eq!(lines.last().unwrap(), "slow: waiting");
        let found = |index: usize| {
            let Finding {
                name,
                is_required,
                problem,
            } = &findings[index];
            (name.as_str(), *is_required, problem.as_str())
        };
        let last: String = (11..=20).map(|number| format!("\n> {number}")).collect();
        let bad = format!("ended with exit code 7{last}");
        assert_eq!(found(0), ("bad", true, bad.as_str()));
        assert_eq!(found(1), ("ended", false, "was ended by signal 9"));
        assert_eq!(found(2), ("slow", true, "timed out after 2 s\n> waiting"));
        let (name, _, problem) = found(3);
        assert_eq!(name, "missing");
        assert!(
            problem.starts_with(
                "can't run bento-has-no-such-program: is it installed, and in PATH?: No such file"
            ),
            "{problem}"
        );
        assert_eq!(findings.len(), 4);
    }

    #[test]
    fn the_folders_programs_run_in_order_through_links() {
        let folder = folder();
        let elsewhere = tempfile::tempdir().unwrap();
        add(elsewhere.path(), "store", "755", "#!/bin/sh\necho \"$0\"\n");
        for name in ["required/b", "required/B", "required/a\u{e4}", "wanted/0"] {
            symlink(elsewhere.path().join("store"), folder.path().join(name)).unwrap();
        }
        add(folder.path(), "wanted/1", "755", "#!/bin/sh\nexit 3\n");
        add(
            folder.path(),
            "wanted/.hidden",
            "755",
            "#!/bin/sh\nexit 4\n",
        );
        let (findings, lines) = checked(&settings(""), folder.path());
        let names: Vec<_> = lines
            .iter()
            .map(|line| line.split_once(": ").unwrap().0)
            .collect();
        assert_eq!(
            names,
            ["required/B", "required/a\u{e4}", "required/b", "wanted/0"]
        );
        assert_eq!(
            findings,
            [Finding {
                name: "wanted/1".into(),
                is_required: false,
                problem: "ended with exit code 3".into()
            }]
        );
    }

    #[test]
    fn what_cannot_be_run_is_a_failure() {
        let folder = folder();
        add(folder.path(), "required/0-text", "644", "#!/bin/sh\n");
        add(folder.path(), "required/1-old~", "755", "#!/bin/sh\n");
        add(folder.path(), "required/2-data", "755", "\u{1}\u{2}");
        symlink("nowhere", folder.path().join("required/3-link")).unwrap();
        fs::create_dir(folder.path().join("required/4-folder")).unwrap();
        let (findings, _) = checked(&settings(""), folder.path());
        let says = [
            "isn't executable",
            "an editor left",
            "Exec format error",
            "No such file",
            "isn't a file",
        ];
        assert_eq!(findings.len(), says.len(), "{findings:?}");
        for (index, (finding, says)) in findings.iter().zip(says).enumerate() {
            assert!(finding.is_required);
            assert!(finding.name.starts_with(&format!("required/{index}-")));
            assert!(finding.problem.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn a_folder_that_is_none_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(checked(&settings(""), folder.path()).0, []);
        fs::write(folder.path().join("required"), "").unwrap();
        let (findings, _) = checked(&settings(""), folder.path());
        assert!(findings[0].is_required && findings[0].problem.contains("can't list"));
    }
}
