//! Problems of a fleet, for the administrator.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use bento_protocol::HostName;
use serde::{Deserialize, Serialize};

use crate::text::list::first_few;
use crate::text::sanitise::is_shown;

/// A problem: its place, its description, and advice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// A file or folder, relative to the fleet folder, with a line where there is one: `fleet.toml:12`.
    pub place: String,
    /// The machine whose publication it stops; none for a problem of the whole fleet.
    pub host: Option<HostName>,
    /// The description.
    pub what: String,
    /// The advice.
    pub advice: String,
    /// Whether it is only a reminder, and nothing is wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_note: bool,
}

impl Problem {
    /// A problem with a file or folder of the fleet.
    pub fn new(
        place: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Problem {
            place: place.into(),
            host: None,
            what: what.into(),
            advice: advice.into(),
            is_note: false,
        }
    }

    /// A note: a reminder of something that is as the administrator wants it.
    pub fn note(
        place: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Problem {
            is_note: true,
            ..Problem::new(place, what, advice)
        }
    }

    /// A problem with the state, such as a full disk.
    pub fn of_state(root: &Path, what: &str, error: &io::Error) -> Self {
        let advice = match error.kind() {
            ErrorKind::StorageFull => "make room on that volume, in blocks and in inodes",
            ErrorKind::QuotaExceeded => "make room on that volume, or raise the quota",
            ErrorKind::ReadOnlyFilesystem => {
                "mount that volume writable again; the host's kernel log says whether an error made it read-only"
            }
            _ => "check that volume, and the host's kernel log",
        };
        Problem::new(
            root.display().to_string(),
            format!("{what}: {error}"),
            format!("{advice}; publications stay, and bento tries again by itself"),
        )
    }

    /// The same problem, as one of this machine.
    #[must_use]
    pub fn of(mut self, host: &HostName) -> Self {
        self.host = Some(host.clone());
        self
    }
}

impl Problem {
    /// The same problem of several machines, as one line.
    pub fn of_all(&self, hosts: &[&HostName]) -> String {
        const NAMED: usize = 5;
        self.line(&first_few(hosts.iter(), NAMED))
    }

    fn line(&self, hosts: &str) -> String {
        // Names of files may hold anything: a newline or an escape sequence must not reach a terminal, nor characters with
        // which one name looks like another.
        let safe = |text: &str| text.chars().flat_map(escape).collect::<String>();
        let parts = [
            &safe(&self.place),
            hosts,
            &safe(&self.what),
            &safe(&self.advice),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(": ")
    }
}

/// One line for each problem, and one for the same problem of many machines: a full disk is one for all of them.
pub fn lines(problems: &[Problem]) -> Vec<String> {
    let mut groups: Vec<(Problem, Vec<&HostName>)> = Vec::new();
    for problem in problems {
        let Some(host) = &problem.host else {
            groups.push((problem.clone(), Vec::new()));
            continue;
        };
        let without_host = Problem {
            host: None,
            ..problem.clone()
        };
        let same =
            |(other, hosts): &&mut (Problem, Vec<_>)| *other == without_host && !hosts.is_empty();
        match groups.iter_mut().find(same) {
            Some((_, hosts)) if hosts.contains(&host) => {}
            Some((_, hosts)) => hosts.push(host),
            None => groups.push((without_host, vec![host])),
        }
    }
    groups
        .iter()
        .map(|(problem, hosts)| problem.of_all(hosts))
        .collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_ref().map(HostName::as_str);
        formatter.write_str(&self.line(host.unwrap_or_default()))
    }
}

fn escape(character: char) -> Vec<char> {
    if is_shown(character) {
        vec![character]
    } else {
        character.escape_default().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_has_no_effect_on_a_terminal() {
        let problem = Problem::new("a\u{1b}[2J", "is \u{202e}xin.ekalf\u{200b}\n", "rename it");
        let shown = r"a\u{1b}[2J: is \u{202e}xin.ekalf\u{200b}\n: rename it";
        assert_eq!(problem.to_string(), shown);
    }
}
