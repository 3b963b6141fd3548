//! The changes as text for people.

use std::fmt::Write;
use std::time::Duration;

use bento_protocol::{Area, GenerationId};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::grouping::Groups;
use super::{Changes, Checksum, Diffs, FileChange, FileContent, HostDiff, Side};
use crate::text::sanitise::{line_as_is, one_line};
use crate::text::terminal::{Colour, Terminal, paint};

/// The time limit for finding the shortest difference of two texts.
const DIFF_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of unchanged lines around a difference.
const CONTEXT: usize = 3;

/// The document as text: the changes, each once for all its machines; then a line for each machine that can't be
/// compared; and one line for all unchanged machines.
pub fn render(diffs: &Diffs, terminal: Option<Terminal>) -> String {
    let mut page = Page {
        diffs,
        terminal,
        text: String::new(),
    };
    let groups = Groups::of(diffs);
    for (hosts, changes) in &groups.changed {
        page.changes(hosts, changes);
        page.line("");
    }
    for host in &groups.others {
        page.line(&incomparable(host));
    }
    page.current(&groups.current);
    if diffs.hosts.is_empty() {
        page.line("The fleet has no machines yet: add one with `bento host add`.");
    }
    page.text
}

/// The reason why a machine can't be compared.
fn incomparable(host: &HostDiff) -> String {
    let name = &host.name;
    match (host.runs, host.published) {
        (_, None) => format!("{name}: no published generation yet, see `bento status`"),
        (None, Some(published)) => {
            let generation = published.generation.short();
            match (host.reported, host.succeeded) {
                (false, _) => {
                    format!("{name}: {generation} is its first generation: it has never reported")
                }
                (true, false) => format!(
                    "{name}: {generation} is its first generation: it has never reported a success, see `bento logs {name}`"
                ),
                (true, true) => format!(
                    "{name}: can't compare with {generation}: a bento 2022 client doesn't report its generation"
                ),
            }
        }
        (Some(runs), Some(published)) => format!(
            "{name}: runs {}, which isn't kept any more, so it can't be compared with {}",
            runs.generation.short(),
            published.generation.short()
        ),
    }
}

struct Page<'a> {
    diffs: &'a Diffs,
    terminal: Option<Terminal>,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn coloured(&mut self, line: &str, colour: Colour) {
        let line = paint(line, colour, self.terminal);
        self.line(&line);
    }

    fn current(&mut self, hosts: &[&HostDiff]) {
        match hosts {
            [] => {}
            [one] => self.line(&format!("{} runs the published generation", one.name)),
            [..] => {
                let line = format!(
                    "{} run the published generation: {}",
                    count(hosts),
                    names(hosts)
                );
                self.line(&line);
            }
        }
    }

    fn changes(&mut self, hosts: &[&HostDiff], changes: &Changes) {
        if let [host] = hosts {
            let ids = |id: GenerationId| id.short();
            let before = host.runs.map(|runs| ids(runs.generation));
            let after = host.published.map(|published| ids(published.generation));
            let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
            self.coloured(&format!("{}: {before} → {after}", host.name), Colour::Blue);
        } else {
            let title = format!("{}: {}", count(hosts), names(hosts));
            self.coloured(&title, Colour::Blue);
        }
        for host in hosts {
            if let Some(caveat) = caveat(host) {
                self.coloured(&caveat, Colour::Yellow);
            }
        }
        for setting in &changes.settings {
            let line = format!(
                "setting {}: {} → {}",
                one_line(&setting.name, 100),
                value(setting.before.as_ref()),
                value(setting.after.as_ref())
            );
            self.line(&line);
        }
        for file in &changes.files {
            self.file(file);
        }
    }

    fn file(&mut self, file: &FileChange) {
        let path = one_line(file.path.as_str(), usize::MAX);
        let (before, after) = (file.before.as_ref(), file.after.as_ref());
        let what = match (before, after) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        let title = format!(
            "{what} {path}{}{}",
            mode(before, after),
            links(before, after)
        );
        if file.path.area() == Area::Secrets {
            self.line(&format!("{title}: a secret, not shown"));
            return;
        }
        let [old, new] = [before, after].map(|side| side.and_then(|side| side.content));
        if old == new {
            self.line(&title);
            return;
        }
        match [old, new].map(|sum| self.text_of(sum)) {
            [Ok(old), Ok(new)] => {
                self.line(&title);
                // A symlink has no contents to compare.
                let names = [before, after].map(|side| match side {
                    Some(side) if side.symlink.is_none() => path.as_str(),
                    _ => "/dev/null",
                });
                self.difference(&old, &new, names);
            }
            [Err(why), _] | [_, Err(why)] => {
                let sizes = sizes(old, new);
                self.line(&format!("{title}: {why}, {sizes}"));
            }
        }
    }

    /// The text of a file, or the reason why it isn't shown.
    fn text_of(&self, sum: Option<Checksum>) -> Result<String, &'static str> {
        let Some(sum) = sum else {
            return Ok(String::new());
        };
        match self.diffs.contents.get(&sum.sha256) {
            Some(FileContent::Text(text)) => Ok(text.clone()),
            Some(FileContent::Binary) => Err("not a text"),
            Some(FileContent::Large) => Err("too large to show"),
            Some(FileContent::Gone) | None => Err("the old contents aren't kept any more"),
        }
    }

    fn difference(&mut self, old: &str, new: &str, [before, after]: [&str; 2]) {
        self.coloured(&format!("--- {before}"), Colour::Red);
        self.coloured(&format!("+++ {after}"), Colour::Green);
        let difference = TextDiff::configure()
            .timeout(DIFF_TIMEOUT)
            .diff_lines(old, new);
        let mut unified = difference.unified_diff();
        for hunk in unified.context_radius(CONTEXT).iter_hunks() {
            self.coloured(&hunk.header().to_string(), Colour::Blue);
            for change in hunk.iter_changes() {
                let text = change.value();
                let shown = line_as_is(text.strip_suffix('\n').unwrap_or(text));
                match change.tag() {
                    ChangeTag::Equal => self.line(&format!(" {shown}")),
                    ChangeTag::Delete => self.coloured(&format!("-{shown}"), Colour::Red),
                    ChangeTag::Insert => self.coloured(&format!("+{shown}"), Colour::Green),
                }
                if !text.ends_with('\n') {
                    self.line("\\ No newline at end of file");
                }
            }
        }
    }
}

/// A caveat if a machine may not run the compared generation.
fn caveat(host: &HostDiff) -> Option<String> {
    let (name, runs) = (&host.name, host.runs?);
    if !runs.ran {
        return Some(format!(
            "{name} installed {}, but hasn't reported that it runs it",
            runs.generation.short()
        ));
    }
    runs.left.then(|| {
        format!(
            "{name} ran {}, but another system in its last report: see `bento status` and `bento logs {name}`",
            runs.generation.short()
        )
    })
}

fn count(hosts: &[&HostDiff]) -> String {
    format!("{} machines", hosts.len())
}

fn names(hosts: &[&HostDiff]) -> String {
    let names: Vec<_> = hosts.iter().map(|host| host.name.as_str()).collect();
    names.join(", ")
}

fn value(value: Option<&Value>) -> String {
    value.map_or_else(
        || "default".to_owned(),
        |value| one_line(&value.to_string(), 500),
    )
}

fn mode(before: Option<&Side>, after: Option<&Side>) -> &'static str {
    let is_executable = |side: Option<&Side>| side.is_some_and(|side| side.executable);
    match (is_executable(before), is_executable(after)) {
        (false, true) if before.is_none() => " (executable)",
        (false, true) => " (executable now)",
        (true, false) if after.is_some() => " (not executable any more)",
        _ => "",
    }
}

/// The old and new targets of a symlink.
fn links(before: Option<&Side>, after: Option<&Side>) -> String {
    let target = |side: Option<&Side>| {
        let target = side?.symlink.as_deref()?;
        Some(one_line(target, usize::MAX))
    };
    match (target(before), target(after)) {
        (None, None) => String::new(),
        (Some(old), Some(new)) => format!(" (a symlink to {old}, now to {new})"),
        (None, Some(new)) if before.is_some() => format!(" (now a symlink to {new})"),
        (Some(old), None) if after.is_some() => format!(" (no longer a symlink to {old})"),
        (None, Some(target)) | (Some(target), None) => format!(" (a symlink to {target})"),
    }
}

fn sizes(before: Option<Checksum>, after: Option<Checksum>) -> String {
    let mut text = String::new();
    let sizes = [before, after].into_iter().flatten();
    for (place, sum) in sizes.enumerate() {
        let arrow = if place > 0 { " → " } else { "" };
        let _infallible = write!(text, "{arrow}{}", sum.size);
    }
    text + " bytes"
}
