//! What changes for whom, as an administrator reads it before saying yes.

use std::io::{self, Write};

use bento_protocol::{FilePath, GenerationId, HostName};

use crate::preview::change::HostChange;
use crate::text::list::first_few;
use crate::text::sanitise::one_line;

/// How many paths, or machines, are named of a kind.
const NAMED: usize = 5;

/// What changes for a machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// From what is published.
    Known(HostChange),
    /// From what was recorded: of that one only the id is known.
    Recorded {
        machine: HostName,
        from: Option<GenerationId>,
        to: GenerationId,
    },
}

/// What is told of machines to which the same happens.
#[derive(PartialEq, Eq)]
struct Tale<'a> {
    is_known: bool,
    is_new: bool,
    settings: bool,
    files: [(&'static str, &'a [FilePath]); 3],
}

impl News {
    pub(super) fn machine(&self) -> &HostName {
        match self {
            News::Known(change) => &change.machine,
            News::Recorded { machine, .. } => machine,
        }
    }

    pub(super) fn from(&self) -> Option<GenerationId> {
        match self {
            News::Known(change) => change.from,
            News::Recorded { from, .. } => *from,
        }
    }

    pub(super) fn to(&self) -> GenerationId {
        match self {
            News::Known(change) => change.to,
            News::Recorded { to, .. } => *to,
        }
    }

    fn tale(&self) -> Tale<'_> {
        let (is_known, settings, files) = match self {
            News::Known(change) => (
                true,
                change.settings,
                [&change.added, &change.changed, &change.removed].map(Vec::as_slice),
            ),
            News::Recorded { .. } => (false, false, [&[][..]; 3]),
        };
        let [added, changed, removed] = files;
        Tale {
            is_known,
            is_new: self.from().is_none(),
            settings,
            files: [("changed", changed), ("added", added), ("removed", removed)],
        }
    }
}

impl Tale<'_> {
    fn lines(&self) -> Vec<String> {
        if self.is_known && self.is_new {
            let [_, (_, added), _] = self.files;
            return vec![match added.len() {
                1 => "new: 1 file".to_owned(),
                count => format!("new: {count} files"),
            }];
        }
        if self.is_new {
            return vec!["new: nothing is recorded of it yet".to_owned()];
        }
        let files = self.files.iter().filter(|(_, paths)| !paths.is_empty());
        let files = files.map(|(kind, paths)| format!("{kind}: {}", listed(paths)));
        let settings = self.settings.then(|| "settings in fleet.toml".to_owned());
        files.chain(settings).collect()
    }
}

/// Tells what changes; once of all the machines to which the same happens.
pub(super) fn print(news: &[News], output: &mut dyn Write) -> io::Result<()> {
    let mut groups: Vec<(Tale<'_>, Vec<&News>)> = Vec::new();
    for news in news {
        let tale = news.tale();
        match groups.iter_mut().find(|(other, _)| *other == tale) {
            Some((_, group)) => group.push(news),
            None => groups.push((tale, vec![news])),
        }
    }
    for (tale, group) in groups {
        let names: Vec<_> = group.iter().map(|news| news.machine()).collect();
        write!(output, "{}", listed(&names))?;
        if let [news] = group[..] {
            write!(output, "  ")?;
            if let Some(from) = news.from() {
                write!(output, "{} → ", from.short())?;
            }
            write!(output, "{}", news.to().short())?;
        }
        writeln!(output)?;
        for line in tale.lines() {
            writeln!(output, "  {line}")?;
        }
    }
    Ok(())
}

/// The first few, and how many more there are. A path may hold anything, and mustn't steer a terminal.
pub(super) fn listed<T: ToString>(all: &[T]) -> String {
    let safe = all.iter().map(|one| one_line(&one.to_string(), usize::MAX));
    first_few(safe, NAMED)
}

/// So many machines.
pub(super) fn machines(count: usize) -> String {
    match count {
        1 => "1 machine".to_owned(),
        count => format!("{count} machines"),
    }
}
