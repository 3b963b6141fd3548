//! The progress of a build, parsed from Nix' output.

use std::fmt;

/// The current step of a machine's build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BuildStep {
    /// Other builds run first.
    Waiting,
    /// Nix evaluates its configuration.
    Evaluating,
    /// Nix fetches a path or a file.
    Fetching(String),
    /// Nix builds a derivation.
    Building(String),
}

impl BuildStep {
    /// The step that a line of Nix' output announces, if any.
    pub(super) fn of(line: &str) -> Option<Self> {
        let first_path = || line.split('\'').nth(1);
        if line.starts_with("building '") {
            let name = name(first_path()?);
            return Some(BuildStep::Building(
                name.strip_suffix(".drv").unwrap_or(name).to_owned(),
            ));
        }
        if line.starts_with("copying path '") {
            return Some(BuildStep::Fetching(name(first_path()?).to_owned()));
        }
        if line.starts_with("downloading '") {
            return Some(BuildStep::Fetching(first_path()?.to_owned()));
        }
        None
    }

    /// The name of the step.
    pub(super) fn phase(&self) -> &'static str {
        match self {
            BuildStep::Waiting => "waiting",
            BuildStep::Evaluating => "evaluating",
            BuildStep::Fetching(_) => "fetching",
            BuildStep::Building(_) => "building",
        }
    }

    /// The path or file in Nix' words.
    pub(super) fn subject(&self) -> &str {
        match self {
            BuildStep::Waiting | BuildStep::Evaluating => "",
            BuildStep::Fetching(subject) | BuildStep::Building(subject) => subject,
        }
    }
}

/// The name in `/nix/store/<32 digits>-<name>`.
fn name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once('-').map_or(file, |(_, name)| name)
}

/// The work that Nix announces in a dry run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DryRunCounts {
    /// The number of derivations to build.
    pub to_build: usize,
    /// The number of paths to fetch.
    pub to_fetch: usize,
}

/// Counts the lines of a dry run.
#[derive(Debug, Default)]
pub(super) struct DryRunParser {
    counts: DryRunCounts,
    /// Whether the next paths would be fetched, not built.
    fetches: bool,
}

impl DryRunParser {
    /// Takes the next line.
    pub(super) fn add(&mut self, line: &str) {
        if line.starts_with("th") && line.contains("will be built") {
            self.fetches = false;
        } else if line.starts_with("th") && line.contains("will be fetched") {
            self.fetches = true;
        } else if line.starts_with("  /") && self.fetches {
            self.counts.to_fetch += 1;
        } else if line.starts_with("  /") && line.ends_with(".drv") {
            self.counts.to_build += 1;
        }
    }

    /// The counts so far.
    pub(super) fn counts(&self) -> DryRunCounts {
        self.counts
    }
}

impl fmt::Display for DryRunCounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.to_build, self.to_fetch) {
            (0, 0) => formatter.write_str("nothing to do"),
            (build, 0) => write!(formatter, "{build} to build"),
            (0, fetch) => write!(formatter, "{fetch} to fetch"),
            (build, fetch) => write!(formatter, "{build} to build, {fetch} to fetch"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_parsed_from_the_lines_of_nix() {
        let path = "/nix/store/gyy5hdbfx6iiinkm2qfjr669j7xaf00k-linux-6.6";
        for (line, phase, subject) in [
            (format!("building '{path}.drv'..."), "building", "linux-6.6"),
            (
                format!("copying path '{path}' from 'https://cache.example.org'..."),
                "fetching",
                "linux-6.6",
            ),
            (
                "downloading 'https://example.org/a.tar.gz'...".to_owned(),
                "fetching",
                "https://example.org/a.tar.gz",
            ),
        ] {
            let step = BuildStep::of(&line).unwrap();
            assert_eq!((step.phase(), step.subject()), (phase, subject));
        }
        assert_eq!(BuildStep::of("linux> building 'x'"), None);
        assert_eq!(
            BuildStep::of("building 'unended"),
            Some(BuildStep::Building("unended".into()))
        );
    }

    #[test]
    fn the_lines_of_a_dry_run_are_counted() {
        let mut count = DryRunParser::default();
        let said = "warning: something\nthese 2 derivations will be built:\n  /nix/store/x-a.drv\n  /nix/store/x-b.drv\n\
                    this path will be fetched (1.00 MiB download, 4.00 MiB unpacked):\n  /nix/store/x-c";
        said.lines().for_each(|line| count.add(line));
        assert_eq!(count.counts().to_string(), "2 to build, 1 to fetch");
        assert_eq!(DryRunCounts::default().to_string(), "nothing to do");
    }
}
