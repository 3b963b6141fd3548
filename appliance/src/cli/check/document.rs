use std::io::{self, Write};

use bento_protocol::{FilePath, Format, GenerationId, HostName, Manifest, ManifestEntry};
use serde::Serialize;

use crate::check::{Shared, shared_lines};
use crate::preview::change::HostChange;
use crate::preview::{HostPreview, Preview};
use crate::problem::{Problem, lines};
use crate::text::list::first_few;
use crate::text::size::size;
use crate::text::terminal::{Colour, Terminal, paint};

/// What would become of a fleet: `bento check --json`.
#[derive(Debug, Serialize)]
pub(super) struct CheckDocument {
    format: Format,
    hosts: Vec<CheckedHost>,
    /// What would be different for whom; none where that isn't known.
    changes: Option<Vec<HostChange>>,
    /// Why the appliance couldn't be asked for it; none where it could, or wasn't to be.
    unasked: Option<String>,
    /// What machines see of each other.
    shared: Vec<Shared>,
    /// What keeps machines from getting anything new.
    pub(super) problems: Vec<Problem>,
    /// What will fail once it is published, or surprise.
    pub(super) warnings: Vec<Problem>,
}

/// What would be published for one machine.
#[derive(Debug, Serialize)]
struct CheckedHost {
    name: HostName,
    /// None where a problem stops it.
    generation: Option<GenerationId>,
    files: usize,
    /// Of all files together.
    bytes: u64,
    keys: usize,
    /// Whether it keeps the generation that it has.
    paused: bool,
}

/// More machines for which nothing changes are one line.
const MOST_UNCHANGED: usize = 5;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// What is wrong, and what will be.
    Problems,
    /// And a line for each machine.
    Machines,
    /// And each file that would be different.
    Files,
}

impl CheckDocument {
    pub(super) fn new(
        preview: Preview,
        changes: Option<Vec<HostChange>>,
        unasked: Option<String>,
        shared: Vec<Shared>,
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
            (0, 0) => writeln!(output, "Nothing is wrong."),
            (0, _) => writeln!(output, "Nothing is wrong but what is warned of."),
            (1, _) => writeln!(output, "1 thing is wrong."),
            (count, _) => writeln!(output, "{count} things are wrong."),
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
            writeln!(
                output,
                "{count} machines stay as they are published: {names}."
            )?;
        }
        for line in shared_lines(&self.shared) {
            writeln!(output, "{line}.")?;
        }
        match &self.unasked {
            Some(why) => writeln!(output, "Whose generation would change isn't known: {why}"),
            None => Ok(()),
        }
    }

    /// Whether there is nothing to say of a machine but that nothing changes for it.
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
            parts.push(change.map_or("as it is published".to_owned(), change_counts));
        }
        if host.paused {
            parts.push("(paused: it keeps the one that it has)".to_owned());
        }
        if host.keys == 0 {
            parts.push("(no key yet: `bento host add` enrols it)".to_owned());
        }
        parts.join("  ")
    }
}

/// What is different, in a few words.
fn change_counts(change: &HostChange) -> String {
    if change.from.is_none() {
        return "its first".to_owned();
    }
    let counts = [
        (change.added.len(), "new"),
        (change.changed.len(), "changed"),
        (change.removed.len(), "gone"),
    ];
    let mut parts: Vec<_> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if change.settings {
        parts.push("other settings".to_owned());
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
            // A path can hold what would steer a terminal, or look like another.
            let path = Problem::new(path.to_string(), "", "");
            writeln!(output, "    {sign} {path}")?;
        }
    }
    Ok(())
}
