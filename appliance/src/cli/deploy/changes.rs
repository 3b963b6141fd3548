//! The changes of a deployment, as they are shown before the prompt.

use std::io::{self, Write};

use bento_protocol::{FilePath, GenerationId, HostName};

use crate::preview::change::HostChange;
use crate::text::list::first_few;
use crate::text::sanitise::one_line;

/// The most paths or machines that are listed.
const NAMED: usize = 5;

/// The change for a machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeployChange {
    /// From the published generation.
    Known(HostChange),
    /// From a recorded generation, of which only the id is known.
    Recorded {
        machine: HostName,
        from: Option<GenerationId>,
        to: GenerationId,
    },
}

/// The text of a change; machines with an equal summary are shown together.
#[derive(PartialEq, Eq)]
struct ChangeSummary<'a> {
    is_known: bool,
    is_new: bool,
    settings: bool,
    files: [(&'static str, &'a [FilePath]); 3],
}

impl DeployChange {
    pub(super) fn machine(&self) -> &HostName {
        match self {
            DeployChange::Known(change) => &change.machine,
            DeployChange::Recorded { machine, .. } => machine,
        }
    }

    pub(super) fn from(&self) -> Option<GenerationId> {
        match self {
            DeployChange::Known(change) => change.from,
            DeployChange::Recorded { from, .. } => *from,
        }
    }

    pub(super) fn to(&self) -> GenerationId {
        match self {
            DeployChange::Known(change) => change.to,
            DeployChange::Recorded { to, .. } => *to,
        }
    }

    fn summary(&self) -> ChangeSummary<'_> {
        let (is_known, settings, files) = match self {
            DeployChange::Known(change) => (
                true,
                change.settings,
                [&change.added, &change.changed, &change.removed].map(Vec::as_slice),
            ),
            DeployChange::Recorded { .. } => (false, false, [&[][..]; 3]),
        };
        let [added, changed, removed] = files;
        ChangeSummary {
            is_known,
            is_new: self.from().is_none(),
            settings,
            files: [("changed", changed), ("added", added), ("removed", removed)],
        }
    }
}

impl ChangeSummary<'_> {
    fn lines(&self) -> Vec<String> {
        if self.is_known && self.is_new {
            let [_, (_, added), _] = self.files;
            return vec![match added.len() {
                1 => "new: 1 file".to_owned(),
                count => format!("new: {count} files"),
            }];
        }
        if self.is_new {
            return vec!["new: no recorded generation".to_owned()];
        }
        let files = self.files.iter().filter(|(_, paths)| !paths.is_empty());
        let files = files.map(|(kind, paths)| format!("{kind}: {}", listed(paths)));
        let settings = self.settings.then(|| "settings in fleet.toml".to_owned());
        files.chain(settings).collect()
    }
}

/// Prints the changes, each once for all its machines.
pub(super) fn print(changes: &[DeployChange], output: &mut dyn Write) -> io::Result<()> {
    let mut groups: Vec<(ChangeSummary<'_>, Vec<&DeployChange>)> = Vec::new();
    for change in changes {
        let summary = change.summary();
        match groups.iter_mut().find(|(other, _)| *other == summary) {
            Some((_, group)) => group.push(change),
            None => groups.push((summary, vec![change])),
        }
    }
    for (summary, group) in groups {
        let names: Vec<_> = group.iter().map(|change| change.machine()).collect();
        write!(output, "{}", listed(&names))?;
        if let [change] = group[..] {
            write!(output, "  ")?;
            if let Some(from) = change.from() {
                write!(output, "{} → ", from.short())?;
            }
            write!(output, "{}", change.to().short())?;
        }
        writeln!(output)?;
        for line in summary.lines() {
            writeln!(output, "  {line}")?;
        }
    }
    Ok(())
}

/// The first few items, and the number of others; control characters in paths are escaped.
pub(super) fn listed<T: ToString>(all: &[T]) -> String {
    let safe = all.iter().map(|one| one_line(&one.to_string(), usize::MAX));
    first_few(safe, NAMED)
}

/// The number of machines, in words.
pub(super) fn machines(count: usize) -> String {
    match count {
        1 => "1 machine".to_owned(),
        count => format!("{count} machines"),
    }
}
