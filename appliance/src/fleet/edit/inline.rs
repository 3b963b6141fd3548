//! Entries of inline tables, with dotted keys, on one or several lines, and with or without a trailing comma.

use std::ops::Range;

use toml_edit::{InlineTable, Item, Value};

use super::Edit;
use super::place::{extent, line_end, line_start};

/// An entry: its keys, and its range without the comma.
struct Entry<'t> {
    keys: Vec<&'t str>,
    place: Range<usize>,
}

/// The number of entries that begin with these keys.
pub(super) fn count(text: &str, table: &InlineTable, keys: &[&str]) -> usize {
    let entries = entries(text, table);
    entries
        .iter()
        .filter(|it| it.keys.starts_with(keys))
        .count()
}

/// The range to remove for the first entry that begins with these keys: with its comma, or with its line if nothing
/// else is on it.
pub(super) fn entry(text: &str, table: &InlineTable, keys: &[&str]) -> Option<Range<usize>> {
    let entries = entries(text, table);
    let index = entries.iter().position(|it| it.keys.starts_with(keys))?;
    let own = &entries[index].place;
    let behind = behind_comma(text, own.end).unwrap_or(own.end);
    let line = line_start(text, own.start)..line_end(text, behind);
    let rest = text[behind..line.end].trim();
    // A comment may belong to the entry before it.
    let ends_line = rest.is_empty() || rest.starts_with('#');
    let begins_line = text[line.start..own.start].trim().is_empty();
    let previous = index.checked_sub(1).map(|previous| &entries[previous]);
    Some(match (previous, entries.get(index + 1)) {
        _ if begins_line && ends_line => line,
        (_, Some(next)) if !ends_line => own.start..next.place.start,
        // A comment on the entry before stays, and so does the comma.
        (Some(previous), _) if !text[previous.place.end..own.start].contains('#') => {
            previous.place.end..own.end
        }
        _ => own.start..behind,
    })
}

/// The edit that adds an entry after the others.
pub(super) fn added(table: &InlineTable, entry: &str) -> Edit {
    let last = table
        .iter()
        .filter_map(|(_, value)| extent(&Item::Value(value.clone())));
    match last.map(|extent| extent.end).max() {
        Some(end) => (end..end, format!(", {entry}")),
        None => (table.span().unwrap_or_default(), format!("{{ {entry} }}")),
    }
}

/// All entries, in the order of the text.
fn entries<'t>(text: &str, table: &'t InlineTable) -> Vec<Entry<'t>> {
    let mut entries = Vec::new();
    collect(table, &[], &mut entries);
    entries.sort_by_key(|entry| entry.place.start);
    // So far only values: the text before each of them, after the previous comma, is its key.
    let mut from = table.span().unwrap_or_default().start + 1;
    for entry in &mut entries {
        entry.place.start = behind_blank(text, from);
        from = behind_comma(text, entry.place.end).unwrap_or(entry.place.end);
    }
    entries
}

fn collect<'t>(table: &'t InlineTable, above: &[&'t str], entries: &mut Vec<Entry<'t>>) {
    for (key, value) in table {
        let keys = [above, &[key]].concat();
        match value {
            Value::InlineTable(table) if table.is_dotted() => collect(table, &keys, entries),
            value => entries.extend(value.span().map(|place| Entry { keys, place })),
        }
    }
}

/// The position after the next comma, if there is one.
fn behind_comma(text: &str, at: usize) -> Option<usize> {
    let comma = behind_blank(text, at);
    text[comma..].starts_with(',').then_some(comma + 1)
}

/// The position after spaces, newlines and comments.
fn behind_blank(text: &str, mut at: usize) -> usize {
    loop {
        let rest = text[at..].trim_start();
        at = text.len() - rest.len();
        if !rest.starts_with('#') {
            return at;
        }
        at = line_end(text, at);
    }
}
