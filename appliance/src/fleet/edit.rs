//! Edits of `fleet.toml` as text: everything else stays byte for byte as the administrator wrote it.
//!
//! The file is parsed for the positions of its keys and values, and changed as text. If it were serialised from the
//! parsed document, dotted keys would move, and line ends and a byte order mark would be lost.

mod inline;
mod place;

use std::ops::Range;

use bento_protocol::HostName;
use toml_edit::{Document, Item, TableLike, Value};

use super::{PublicKey, SourcePath, SourceTemplate};
use place::{extent, first_line_below, last_header, lines_of, whole_lines};

/// Why a `fleet.toml` can't be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It isn't TOML.
    #[error("it can't be read: {0}")]
    Syntax(String),
    /// A value of the wrong type.
    #[error("line {line}: {what} isn't {kind}: write {advice}")]
    Kind {
        /// Counted from 1.
        line: usize,
        /// The value.
        what: String,
        /// The required type.
        kind: &'static str,
        /// An example.
        advice: String,
    },
    /// The machine already exists.
    #[error("it has a machine {0} already")]
    Taken(HostName),
    /// The machine doesn't exist.
    #[error("it has no machine {0}: `bento host list` lists the machines")]
    Unknown(HostName),
}

/// Adds a machine, or keys to an existing machine. Keys and a source that it already has, also from `[defaults]`, are
/// left out.
///
/// # Errors
/// When the text can't be edited.
pub fn enrol(
    text: &str,
    name: &HostName,
    keys: &[PublicKey],
    source: Option<&SourceTemplate>,
) -> Result<String, EditError> {
    let text = enrol_keys(text, name, keys)?;
    let reading = super::read(&text).ok();
    let host = reading.and_then(|mut reading| reading.fleet.hosts.remove(name));
    let has = |source: &&SourceTemplate| {
        let known = host.as_ref().map(|host| &host.source);
        known.is_some_and(|known| source.of(name).as_ref() == Ok(known))
    };
    match source.filter(|source| !has(source)) {
        Some(source) => set(&text, name, "source", &quoted(source)),
        None => Ok(text),
    }
}

fn enrol_keys(text: &str, name: &HostName, keys: &[PublicKey]) -> Result<String, EditError> {
    let draft = Draft::of(text)?;
    let Some(host) = draft.host(name)? else {
        return Ok(draft.with_host(name, keys));
    };
    let known: Vec<&Value> = match host.get("keys") {
        None => Vec::new(),
        Some(item) => {
            let array = item.as_array();
            let what = format!("the value of {name}'s keys");
            let advice = "keys = [\"ssh-ed25519 …\"]";
            let array = array.ok_or_else(|| draft.kind(item, what, "a list", advice))?;
            array.iter().collect()
        }
    };
    // Its own list replaces that of [defaults], so the inherited keys must be in it to remain.
    let inherited = inherited_keys(text, name);
    let has = |key: &PublicKey| {
        let key_of = |value: &&Value| value.as_str().and_then(|text| text.parse().ok());
        let mut own = known.iter().filter_map(key_of);
        own.any(|known: PublicKey| known == *key) || inherited.contains(key)
    };
    let mut new: Vec<String> = keys.iter().filter(|key| !has(key)).map(quoted).collect();
    if !new.is_empty() {
        new.splice(0..0, inherited.iter().map(quoted));
    }
    let mut text = text.to_owned();
    if !new.is_empty() {
        let new = new.join(", ");
        let last = known.last().and_then(|value| value.span());
        let commented = host
            .get("keys")
            .and_then(Item::span)
            .filter(|list| text[list.clone()].contains('#'));
        let edit = match (last, commented) {
            (Some(last), _) => (last.end..last.end, format!(", {new}")),
            (None, Some(list)) => (list.start + 1..list.start + 1, new),
            (None, None) => draft.setting(name, host, "keys", &format!("[{new}]")),
        };
        text = applied(&text, edit);
    }
    Ok(text)
}

/// The keys of a machine from `[defaults]`. A machine that was refused because another one has them has none.
pub fn inherited_keys(text: &str, name: &HostName) -> Vec<PublicKey> {
    let draft = Draft::of(text).ok();
    let host = draft.as_ref().and_then(|draft| draft.host(name).ok()?);
    if host.is_none_or(|host| host.get("keys").is_some()) {
        return Vec::new();
    }
    let mut reading = super::read(text).ok();
    let host = reading
        .as_mut()
        .and_then(|reading| reading.fleet.hosts.remove(name));
    host.map(|host| host.keys).unwrap_or_default()
}

/// Removes machines, each with the comments right above or below it; a comment after a blank line stays.
///
/// # Errors
/// When the text can't be edited.
pub fn remove(text: &str, names: &[HostName]) -> Result<String, EditError> {
    let mut text = text.to_owned();
    for name in names {
        let draft = Draft::of(&text)?;
        let host = draft.known_host(name)?;
        let hosts = draft.document.get("hosts").unwrap_or(host);
        text = match hosts.as_inline_table() {
            Some(table) => {
                let entries = inline::count(&text, table, &[name.as_str()]);
                without_entries(text, name, entries)?
            }
            None => {
                let key = draft.hosts()?.and_then(|hosts| hosts.key(name.as_str()));
                without(&text, whole_lines(&text, &lines_of(key, host)))
            }
        };
    }
    Ok(text)
}

/// The text without the entries of a machine in a table on one line: several, if they are dotted keys.
fn without_entries(mut text: String, name: &HostName, entries: usize) -> Result<String, EditError> {
    for _ in 0..entries {
        let draft = Draft::of(&text)?;
        let hosts = draft.document.get("hosts").and_then(Item::as_inline_table);
        let entry = hosts.and_then(|hosts| inline::entry(&text, hosts, &[name.as_str()]));
        text = applied(&text, (entry.unwrap_or_default(), String::new()));
    }
    Ok(text)
}

/// Renames a machine, with the old name as `renamed_from`.
///
/// # Errors
/// When the text can't be edited, or another machine has the new name.
pub fn rename(text: &str, old: &HostName, new: &HostName) -> Result<String, EditError> {
    let draft = Draft::of(text)?;
    draft.known_host(old)?;
    if draft.host(new)?.is_some() {
        return Err(EditError::Taken(new.clone()));
    }
    let replaced =
        |text: &str, at: usize| applied(text, (at..at + old.as_str().len(), new.to_string()));
    // If the old name is the key of a whole table, replacing the key is enough.
    let is_key = |at: &usize| {
        let text = replaced(text, *at);
        let draft = Draft::of(&text);
        draft.is_ok_and(|draft| matches!(draft.host(new), Ok(Some(_))))
    };
    let places: Vec<usize> = text.match_indices(old.as_str()).map(|(at, _)| at).collect();
    let keys = places.into_iter().filter(is_key).rev();
    let text = keys.fold(text.to_owned(), |text, at| replaced(&text, at));
    set(&text, new, "renamed_from", &quoted(old))
}

/// Sets the source of a machine.
///
/// # Errors
/// When the text can't be edited.
pub fn set_source(text: &str, name: &HostName, source: &SourcePath) -> Result<String, EditError> {
    set(text, name, "source", &quoted(source))
}

/// Sets the attribute of a machine in its flake.
///
/// # Errors
/// When the text can't be edited.
pub fn set_attribute(text: &str, name: &HostName, attribute: &str) -> Result<String, EditError> {
    set(text, name, "attribute", &quoted(attribute))
}

/// Pauses or resumes machines.
///
/// # Errors
/// When the text can't be edited.
pub fn set_paused(text: &str, names: &[HostName], paused: bool) -> Result<String, EditError> {
    let mut text = text.to_owned();
    for name in names {
        text = set_paused_of(&text, name, paused)?;
    }
    Ok(text)
}

fn set_paused_of(text: &str, name: &HostName, paused: bool) -> Result<String, EditError> {
    let draft = Draft::of(text)?;
    let own = draft.known_host(name)?.get("paused");
    let default = draft
        .document
        .get("defaults")
        .and_then(|defaults| defaults.get("paused"))
        .and_then(Item::as_bool)
        .unwrap_or_default();
    // Its own key replaces the default.
    match own.map(Item::as_bool) {
        Some(Some(own)) if own == paused => Ok(text.to_owned()),
        None if default == paused => Ok(text.to_owned()),
        Some(_) if default == paused => match draft.line_of(name, "paused") {
            Some(line) => Ok(applied(text, (line, String::new()))),
            None => set(text, name, "paused", &paused.to_string()),
        },
        _ => set(text, name, "paused", &paused.to_string()),
    }
}

/// Sets a key of a machine to a value in TOML.
fn set(text: &str, name: &HostName, key: &str, value: &str) -> Result<String, EditError> {
    let draft = Draft::of(text)?;
    let host = draft.known_host(name)?;
    Ok(applied(text, draft.setting(name, host, key, value)))
}

/// A range of the text, and its replacement.
type Edit = (Range<usize>, String);

fn applied(text: &str, (range, new): Edit) -> String {
    [&text[..range.start], &new, &text[range.end..]].concat()
}

/// A parsed text.
struct Draft<'t> {
    text: &'t str,
    document: Document<&'t str>,
}

impl<'t> Draft<'t> {
    fn of(text: &'t str) -> Result<Self, EditError> {
        let document = Document::parse(text)
            .map_err(|error| EditError::Syntax(error.to_string().trim().to_owned()))?;
        Ok(Draft { text, document })
    }

    fn hosts(&self) -> Result<Option<&dyn TableLike>, EditError> {
        let hosts = self.document.get("hosts").map(Item::as_table_like);
        match hosts {
            Some(None) => {
                let item = self.document.get("hosts").unwrap_or(&Item::None);
                let advice = "[hosts.<name>] for each machine";
                Err(self.kind(item, "hosts", "a table", advice))
            }
            hosts => Ok(hosts.flatten()),
        }
    }

    fn kind(
        &self,
        item: &Item,
        what: impl Into<String>,
        kind: &'static str,
        advice: impl Into<String>,
    ) -> EditError {
        let start = item.span().unwrap_or_default().start;
        EditError::Kind {
            line: self.text[..start].matches('\n').count() + 1,
            what: what.into(),
            kind,
            advice: advice.into(),
        }
    }

    fn host(&self, name: &HostName) -> Result<Option<&Item>, EditError> {
        let host = self.hosts()?.and_then(|hosts| hosts.get(name.as_str()));
        match host {
            Some(host) if !host.is_table_like() => {
                Err(self.kind(host, name.as_str(), "a table", format!("[hosts.{name}]")))
            }
            host => Ok(host),
        }
    }

    fn known_host(&self, name: &HostName) -> Result<&Item, EditError> {
        self.host(name)?
            .ok_or_else(|| EditError::Unknown(name.clone()))
    }

    /// The line of a machine's key, if it can be removed: it has no comment, and isn't the machine's only entry.
    fn line_of(&self, name: &HostName, key: &str) -> Option<Range<usize>> {
        let host = self.host(name).ok().flatten()?;
        if let Some(table) = host.as_inline_table() {
            let entry = match self.dotted_in(host) {
                // Without its only entry, the machine would be gone.
                Some(_) if table.len() == 1 => None,
                Some(hosts) => inline::entry(self.text, hosts, &[name.as_str(), key]),
                None => inline::entry(self.text, table, &[key]),
            };
            return entry.filter(|entry| !self.text[entry.clone()].contains('#'));
        }
        let table = host.as_table()?;
        let named = !table.is_dotted() && !table.is_implicit();
        let span = table.key(key)?.span()?.start..table.get(key)?.span()?.end;
        let line = place::line_start(self.text, span.start)..place::line_end(self.text, span.end);
        let bare = self.text[span.end..line.end].trim().is_empty();
        (bare && (named || table.len() > 1)).then_some(line)
    }

    /// The table on one line that has the machine's settings as dotted keys.
    fn dotted_in(&self, host: &Item) -> Option<&toml_edit::InlineTable> {
        let hosts = self.document.get("hosts").and_then(Item::as_inline_table);
        hosts.filter(|_| {
            host.as_inline_table()
                .is_some_and(|table| table.is_dotted())
        })
    }

    fn line_end(&self) -> &'static str {
        if self.text.contains("\r\n") {
            "\r\n"
        } else {
            "\n"
        }
    }

    /// The text with another machine, below the others.
    fn with_host(&self, name: &HostName, keys: &[PublicKey]) -> String {
        let keys: Vec<String> = keys.iter().map(quoted).collect();
        let setting = format!("keys = [{}]", keys.join(", "));
        let hosts = self.document.get("hosts");
        if let Some(table) = hosts.and_then(Item::as_inline_table) {
            let entry = format!("{name} = {{ {setting} }}");
            return applied(self.text, inline::added(table, &entry));
        }
        let end = self.line_end();
        let at = hosts
            .and_then(last_header)
            .map_or(self.text.len(), |last| first_line_below(self.text, last));
        let before = &self.text[..at];
        let begun = if before.is_empty() || before.ends_with('\n') {
            ""
        } else {
            end
        };
        let apart = if before.is_empty() { "" } else { end };
        let block = format!("{begun}{apart}[hosts.{name}]{end}{setting}{end}");
        applied(self.text, (at..at, block))
    }

    /// The edit that sets a key of a machine.
    fn setting(&self, name: &HostName, host: &Item, key: &str, value: &str) -> Edit {
        if let Some(old) = host.get(key).and_then(Item::span) {
            return (old, value.to_owned());
        }
        let entry = format!("{key} = {value}");
        if let Some(table) = host.as_inline_table() {
            return match self.dotted_in(host) {
                Some(_) => inline::added(table, &format!("{name}.{entry}")),
                None => inline::added(table, &entry),
            };
        }
        let end = self.line_end();
        let is_below = |item: &Item| item.as_table().is_none_or(|table| table.is_dotted());
        let own = host
            .as_table_like()
            .into_iter()
            .flat_map(|table| table.iter());
        let last = own
            .filter(|(_, item)| is_below(item))
            .filter_map(|(_, item)| extent(item))
            .map(|extent| extent.end)
            .max();
        let table = host.as_table();
        let key_of_host = || {
            let hosts = self.document.get("hosts").and_then(Item::as_table_like)?;
            hosts.key(name.as_str())?.span()
        };
        // `[hosts.a]`, `hosts.a.keys = …`, or only `[hosts.a.reboot_window]`.
        let (at, prefix) = if table.is_some_and(|table| table.is_dotted()) {
            let named = key_of_host().unwrap_or_default();
            let line = place::line_start(self.text, named.start);
            let at = last.unwrap_or(named.end);
            (at, format!("{}.", &self.text[line..named.end]))
        } else if table.is_some_and(|table| !table.is_implicit()) {
            let header = host.span().unwrap_or_default();
            (last.unwrap_or(header.end), String::new())
        } else {
            let below = extent(host).unwrap_or_default();
            let at = place::line_start(self.text, below.start);
            return (at..at, format!("[hosts.{name}]{end}{entry}{end}{end}"));
        };
        let at = place::line_end(self.text, at);
        match self.text[..at].ends_with('\n') {
            true => (at..at, format!("{prefix}{entry}{end}")),
            false => (at..at, format!("{end}{prefix}{entry}{end}")),
        }
    }
}

/// The text without these ranges, which are in order.
fn without(text: &str, ranges: Vec<Range<usize>>) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for range in ranges {
        kept.push_str(&text[from..range.start]);
        from = range.end;
    }
    kept.push_str(&text[from..]);
    kept
}

fn quoted(text: impl ToString) -> String {
    Value::from(text.to_string()).to_string()
}

#[cfg(test)]
mod tests;
