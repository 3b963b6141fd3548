//! Positions in the text: byte ranges, and the lines around them.

use std::ops::Range;

use toml_edit::{Item, Key};

/// The range of a value, or of a table with everything below it.
pub(super) fn extent(item: &Item) -> Option<Range<usize>> {
    let own = match item {
        Item::Table(table) if table.is_implicit() || table.is_dotted() => None,
        item => item.span(),
    };
    let table = match item {
        Item::Table(table) => Some(table as &dyn toml_edit::TableLike),
        // The span of a table of dotted keys is only its name.
        Item::Value(toml_edit::Value::InlineTable(table)) if table.is_dotted() => Some(table as _),
        _ => None,
    };
    let below = table.into_iter().flat_map(|table| table.iter());
    let parts = below.filter_map(|(_, item)| extent(item)).chain(own);
    parts.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end))
}

/// Every range of a table: headers, and keys with their values.
pub(super) fn lines_of(key: Option<&Key>, item: &Item) -> Vec<Range<usize>> {
    let Item::Table(table) = item else {
        let ends = key.and_then(Key::span).zip(item.span());
        let entry = ends.map(|(key, value)| key.start..value.end);
        return entry.into_iter().collect();
    };
    let header = item
        .span()
        .filter(|_| !table.is_implicit() && !table.is_dotted());
    let below = table
        .iter()
        .flat_map(|(key, item)| lines_of(table.key(key), item));
    header.into_iter().chain(below).collect()
}

/// The end of the section below the last header of these tables.
pub(super) fn last_header(item: &Item) -> Option<usize> {
    let table = item.as_table()?;
    let own = (!table.is_implicit() && !table.is_dotted()).then(|| {
        let values = table
            .iter()
            .filter(|(_, item)| item.as_table().is_none_or(|table| table.is_dotted()));
        let ends = values
            .filter_map(|(_, item)| extent(item))
            .chain(item.span());
        ends.map(|extent| extent.end).max()
    });
    let below = table.iter().filter_map(|(_, item)| last_header(item));
    below.chain(own.flatten()).max()
}

pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The end of the line, its newline included.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..]
        .find('\n')
        .map_or(text.len(), |newline| at + newline + 1)
}

/// The start of the first line below a position that isn't a comment on it.
pub(super) fn first_line_below(text: &str, at: usize) -> usize {
    let below = line_end(text, at);
    let comments = comments_from(text, below);
    match next_line(text, comments) {
        // The comments are right above something else.
        Some(line) if !line.trim().is_empty() => below,
        _ => comments,
    }
}

/// The end of the comment lines from here on.
fn comments_from(text: &str, mut at: usize) -> usize {
    while next_line(text, at).is_some_and(is_comment) {
        at = line_end(text, at);
    }
    at
}

fn next_line(text: &str, at: usize) -> Option<&str> {
    (at < text.len()).then(|| &text[at..line_end(text, at)])
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

/// The lines of these ranges, with their comments, and with blank lines that would be left over; in order, each once.
pub(super) fn whole_lines(text: &str, ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let mut ranges = ranges.to_vec();
    ranges.sort_by_key(|range| range.start);
    for range in ranges {
        let range = line_start(text, range.start)..line_end(text, range.end);
        match blocks.last_mut() {
            Some(last) if range.start <= last.end || is_gap(&text[last.end..range.start]) => {
                last.end = last.end.max(range.end);
            }
            _ => blocks.push(range),
        }
    }
    blocks
        .into_iter()
        .map(|block| with_comments(text, block))
        .collect()
}

/// Whether there are only comments and blank lines between two parts of one machine.
fn is_gap(between: &str) -> bool {
    between
        .lines()
        .all(|line| is_blank(line) || is_comment(line))
}

fn with_comments(text: &str, mut block: Range<usize>) -> Range<usize> {
    let previous = |at: usize| (at > 0).then(|| line_start(text, at - 1)..at);
    let mut start = block.start;
    while let Some(line) = previous(start).filter(|line| is_comment(&text[line.clone()])) {
        start = line.start;
    }
    // A comment at the very top is about the file.
    if start > 0 {
        block.start = start;
    }
    block.end = first_line_below(text, block.end.saturating_sub(1));
    let blank_above = previous(block.start).is_none_or(|line| is_blank(&text[line]));
    if blank_above {
        while next_line(text, block.end).is_some_and(is_blank) {
            block.end = line_end(text, block.end);
        }
    }
    if block.end == text.len() {
        while let Some(line) = previous(block.start).filter(|line| is_blank(&text[line.clone()])) {
            block.start = line.start;
        }
    }
    block
}
