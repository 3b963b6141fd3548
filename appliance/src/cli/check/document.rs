use std::io::{self, Write};

use bento_protocol::{FilePath, Format, GenerationId, HostName, Manifest, ManifestEntry};
use serde::Serialize;

use crate::check::{SharedPlace, shared_lines};
use crate::preview::change::HostChange;
use crate::preview::{HostPreview, Preview};
use crate::problem::{Problem, lines};
use crate::text::list::first_few;
use crate::text::size::size;
use crate::text::terminal::{Colour, Terminal, paint};

/// The document of `bento check --json`.
#[derive(Debug, Serialize)]
pub(super) struct CheckDocument {
    format: Format,
    hosts: Vec<CheckedHost>,
    /// The changes to the published generations; none if unknown.
    changes: Option<Vec<HostChange>>,
    /// The error, if the appliance couldn't be asked for them.
    unasked: Option<String>,
    /// The files that machines share.
    shared: Vec<SharedPlace>,
    /// The problems that stop publications.
    pub(super) problems: Vec<Problem>,
    /// The likely failures and surprises after a publication.
    pub(super) warnings: Vec<Problem>,
}

/// The preview of one machine.
#[derive(Debug, Serialize)]
struct CheckedHost {
    name: HostName,
    /// None if a problem prevents its publication.
    generation: Option<GenerationId>,
    files: usize,
    /// The total size of its files.
    bytes: u64,
    keys: usize,
    /// Whether it keeps its current generation.
    paused: bool,
}

/// The most unchanged machines with a line each; more share one line.
const MOST_UNCHANGED: usize = 5;

/// The amount of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Only errors and warnings.
    Problems,
    /// Also a line for each machine.
    Machines,
    /// Also each file that would change.
    Files,
}

impl CheckDocument {
    pub(super) fn new(
        preview: Preview,
        changes: Option<Vec<HostChange>>,
        unasked: Option<String>,
        shared: Vec<SharedPlace>,
        warnings: Vec<Problem>,
    ) -> Self {
        let hosts = preview.fleet.as_ref().map(|fleet| &fleet.hosts);
        let host = |(name, host_preview): (&HostName, &Option<HostPreview>)| {
            let host = hosts.and_then(|hosts| hosts.get(name));
            let manifest = host_preview
                .as_ref()
                .map(|host_preview| &host_preview.manifest);
            let files = manifest.map_or(&[][..], Manifest::files);
            CheckedHost {
                name: name.clone(),
                generation: manifest.map(Manifest::generation),
                files: files.len(),
                bytes: files.iter().map(ManifestEntry::size).sum(),
                keys: host.map_or(0, |host| host.keys.len()),
                paused: host.is_some_and(|host| host.paused),
            }
        };
        CheckDocument {
            format: Format,
            hosts: preview.machines.iter().map(host).collect(),
            changes,
            unasked,
            shared,
            problems: preview.problems,
            warnings,
        }
    }

    pub(super) fn print(&self, detail: Detail, output: &mut dyn Write) -> io::Result<()> {
        if detail != Detail::Problems {
            self.print_machines(detail, output)?;
        }
        let terminal = Terminal::of_output();
        let (warning, error) = (
            paint("warning:", Colour::Yellow, terminal),
            paint("error:", Colour::Red, terminal),
        );
        for line in lines(&self.warnings) {
            writeln!(output, "{warning} {line}")?;
        }
        let problems = lines(&self.problems);
        for line in &problems {
            writeln!(output, "{error} {line}")?;
        }
        match (problems.len(), self.warnings.len()) {
            (0, _) if detail == Detail::Problems => Ok(()),
            (0, 0) => writeln!(output, "No problems."),
            (0, _) => writeln!(output, "No errors, only warnings."),
            (1, _) => writeln!(output, "1 error."),
            (count, _) => writeln!(output, "{count} errors."),
        }
    }

    fn print_machines(&self, detail: Detail, output: &mut dyn Write) -> io::Result<()> {
        let widths = self.hosts.iter().map(|host| host.name.as_str().len());
        let width = widths.max().unwrap_or_default();
        let unchanged: Vec<_> = self
            .hosts
            .iter()
            .filter(|it| self.is_unchanged(it))
            .collect();
        let is_folded = unchanged.len() > MOST_UNCHANGED;
        for host in &self.hosts {
            if is_folded && self.is_unchanged(host) {
                continue;
            }
            let change = self.change_of(&host.name);
            writeln!(output, "{:width$}  {}", host.name, self.line(host, change))?;
            if detail == Detail::Files {
                change.map_or(Ok(()), |change| list(change, output))?;
            }
        }
        if is_folded {
            let names = unchanged.iter().map(|host| &host.name);
            let (count, names) = (unchanged.len(), first_few(names, MOST_UNCHANGED));
            writeln!(output, "{count} machines are unchanged: {names}.")?;
        }
        for line in shared_lines(&self.shared) {
            writeln!(output, "{line}.")?;
        }
        match &self.unasked {
            Some(why) => writeln!(
                output,
                "Can't compare with the published generations: {why}"
            ),
            None => Ok(()),
        }
    }

    /// Whether a machine has no change and nothing else to show.
    fn is_unchanged(&self, host: &CheckedHost) -> bool {
        let is_same = self.changes.is_some() && self.change_of(&host.name).is_none();
        is_same && host.generation.is_some() && host.keys > 0 && !host.paused
    }

    fn change_of(&self, name: &HostName) -> Option<&HostChange> {
        let mut changes = self.changes.iter().flatten();
        changes.find(|change| change.machine == *name)
    }

    fn line(&self, host: &CheckedHost, change: Option<&HostChange>) -> String {
        let Some(id) = host.generation else {
            return "can't be published".to_owned();
        };
        let files = match host.files {
            1 => "1 file".to_owned(),
            files => format!("{files} files"),
        };
        let mut parts = vec![
            format!("generation {}", id.short()),
            format!("{files}, {}", size(host.bytes)),
        ];
        if self.changes.is_some() {
            parts.push(change.map_or("unchanged".to_owned(), change_counts));
        }
        if host.paused {
            parts.push("(paused: it keeps its current generation)".to_owned());
        }
        if host.keys == 0 {
            parts.push("(no key yet: add one with `bento host add`)".to_owned());
        }
        parts.join("  ")
    }
}

/// The counts of a change, in words.
fn change_counts(change: &HostChange) -> String {
    if change.from.is_none() {
        return "first generation".to_owned();
    }
    let counts = [
        (change.added.len(), "new"),
        (change.changed.len(), "changed"),
        (change.removed.len(), "removed"),
    ];
    let mut parts: Vec<_> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if change.settings {
        parts.push("settings changed".to_owned());
    }
    parts.join(", ")
}

fn list(change: &HostChange, output: &mut dyn Write) -> io::Result<()> {
    let kinds: [(&str, &[FilePath]); 3] = [
        ("+", &change.added),
        ("~", &change.changed),
        ("-", &change.removed),
    ];
    for (sign, paths) in kinds {
        for path in paths {
            // A path may contain control characters, which a problem escapes.
            let path = Problem::new(path.to_string(), "", "");
            writeln!(output, "    {sign} {path}")?;
        }
    }
    Ok(())
}
