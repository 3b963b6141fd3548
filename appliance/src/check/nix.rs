//! The facts in a Nix file that can be found without Nix, such as the paths that it names.

use std::collections::{HashMap, HashSet};

use rnix::SyntaxKind::*;
use rnix::{Root, SyntaxNode, SyntaxToken};

use super::fault::Fault;

/// The parsed facts of a Nix file.
#[derive(Debug, Default)]
pub(super) struct NixFile {
    /// All paths that are relative to the file or to the top of its flake, in the order of the text.
    pub(super) references: Vec<Reference>,
    /// The first syntax error, if any.
    pub(super) fault: Option<Fault>,
    /// The uses of the flake's revision: line and text.
    pub(super) revisions: Vec<(usize, String)>,
    /// The addresses that it fetches over SSH: line and address.
    pub(super) over_ssh: Vec<(usize, String)>,
    /// The placeholders from examples: line and text.
    pub(super) placeholders: Vec<(usize, &'static str)>,
}

/// A path in a Nix file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The path, such as `../utils`, up to a `${`.
    pub(super) path: String,
    /// Whether the path is complete, without a computed part.
    pub(super) whole: bool,
    /// Whether it is relative to the top of the flake, as in `"${self}/modules"`, not to the file.
    pub(super) from_top: bool,
    /// Whether it may be missing: the file checks for it, or it is only an example.
    pub(super) is_optional: bool,
}

/// The placeholders in the examples of bento and its manual.
const PLACEHOLDERS: [&str; 3] = ["OWNER/bento", "AAAA…", "<the host key>"];
/// The attributes that only a flake from git has.
const REVISIONS: [&str; 5] = ["rev", "shortRev", "dirtyRev", "dirtyShortRev", "revCount"];
/// The functions that fetch with git.
const FETCHERS: [&str; 3] = ["fetchGit", "fetchTree", "fetchgit"];
/// The names of the flake itself.
const FLAKE: [&str; 2] = ["self", "inputs.self"];

impl NixFile {
    /// Parses a file. With syntax errors, the parsable parts are used.
    pub(super) fn read(text: &str) -> Self {
        let parsed = Root::parse(text);
        let root = parsed.syntax();
        let lines = Lines::new(text);
        let mut file = NixFile {
            fault: parsed.errors().first().map(|error| Fault::of(text, error)),
            ..NixFile::default()
        };
        let mut checks = ExistenceChecks::default();
        for node in root.descendants() {
            let line = lines.of(&node);
            if let Some(mut reference) = reference(&node, line) {
                reference.is_optional = is_example(&node);
                file.references.push(reference);
            }
            match node.kind() {
                NODE_APPLY => checks.add_call(&node),
                NODE_ATTRPATH_VALUE => checks.add_binding(&node),
                NODE_SELECT | NODE_HAS_ATTR | NODE_INHERIT => {
                    let needed = revision(&node);
                    file.revisions.extend(needed.map(|what| (line, what)));
                }
                NODE_STRING => {
                    let url = over_ssh(&node);
                    file.over_ssh.extend(url.map(|url| (line, url)));
                }
                _ => {}
            }
        }
        for reference in &mut file.references {
            reference.is_optional |= checks.has(reference);
        }
        for (index, line) in text.lines().enumerate() {
            let found = PLACEHOLDERS.iter().filter(|one| line.contains(**one));
            file.placeholders.extend(found.map(|one| (index + 1, *one)));
        }
        file
    }
}

/// The beginnings of the lines of a text.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(end, _)| end + 1);
        Lines(std::iter::once(0).chain(ends).collect())
    }

    /// The line on which a node begins, counted from 1.
    fn of(&self, node: &SyntaxNode) -> usize {
        let start = usize::from(node.text_range().start());
        self.0.partition_point(|line| *line <= start)
    }
}

/// The path in a node: alone, at the beginning of a string, or in a sum.
fn reference(node: &SyntaxNode, line: usize) -> Option<Reference> {
    let (path, whole, from_top) = match node.kind() {
        NODE_PATH_REL => {
            let sum = node.parent().filter(|parent| parent.kind() == NODE_BIN_OP);
            let added = sum.and_then(|sum| addend(&sum, node));
            let (mut path, mut whole) = (token(node)?, node.children().next().is_none());
            if let (true, Some((text, text_whole))) = (whole, added) {
                path.push_str(&text);
                whole = text_whole;
            }
            (path, whole, false)
        }
        NODE_BIN_OP => {
            let flake = node.children().next().filter(is_flake)?;
            let (text, whole) = addend(node, &flake)?;
            (text.strip_prefix('/')?.to_owned(), whole, true)
        }
        NODE_STRING => {
            let mut parts = node.children_with_tokens().skip(1);
            let base = parts.next()?.into_node()?.children().next()?;
            let text = parts.next()?.into_token()?;
            let whole = parts.next()?.kind() == TOKEN_STRING_END;
            let below = text.text().strip_prefix('/').filter(|text| is_path(text))?;
            match base.kind() {
                NODE_PATH_REL => (format!("{}/{below}", token(&base)?), whole, false),
                _ if is_flake(&base) => (below.to_owned(), whole, true),
                _ => return None,
            }
        }
        _ => return None,
    };
    let is_optional = false;
    Some(Reference {
        line,
        path,
        whole,
        from_top,
        is_optional,
    })
}

/// The second part of a sum, if it can belong to a path, and whether it is complete.
fn addend(sum: &SyntaxNode, first: &SyntaxNode) -> Option<(String, bool)> {
    let is_sum = sum
        .children_with_tokens()
        .any(|part| part.kind() == TOKEN_ADD);
    let mut operands = sum.children();
    if !is_sum || operands.next().as_ref() != Some(first) {
        return None;
    }
    let string = operands.next().filter(|node| node.kind() == NODE_STRING);
    let Some(string) = string else {
        return Some((String::new(), false));
    };
    let mut parts = string.children_with_tokens().skip(1);
    let text = parts.next()?.into_token()?;
    let whole = parts
        .next()
        .is_none_or(|part| part.kind() == TOKEN_STRING_END);
    is_path(text.text()).then(|| (text.text().to_owned(), whole))
}

fn is_path(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    text.chars().all(is_part)
}

fn is_flake(node: &SyntaxNode) -> bool {
    matches!(node.kind(), NODE_IDENT | NODE_SELECT) && FLAKE.iter().any(|name| node.text() == *name)
}

/// The text of a node's first token.
fn token(node: &SyntaxNode) -> Option<String> {
    let first = node.first_token()?;
    Some(first.text().to_owned())
}

/// The paths that a file checks with `pathExists`.
#[derive(Default)]
struct ExistenceChecks {
    paths: HashSet<String>,
    names: HashSet<String>,
    /// The paths of names.
    bound: HashMap<String, String>,
}

impl ExistenceChecks {
    /// Adds a call of `pathExists`.
    fn add_call(&mut self, call: &SyntaxNode) {
        let mut parts = call.children();
        let (Some(function), Some(argument)) = (parts.next(), parts.next()) else {
            return;
        };
        if function
            .last_token()
            .is_some_and(|last| last.text() == "pathExists")
        {
            let named = argument
                .descendants()
                .filter_map(|node| reference(&node, 0));
            self.paths.extend(named.map(|reference| reference.path));
            self.names.insert(argument.text().to_string());
        }
    }

    /// Adds a name that stands for a path.
    fn add_binding(&mut self, binding: &SyntaxNode) {
        let mut parts = binding.children();
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && let Some(reference) = reference(&value, 0)
        {
            self.bound.insert(name.text().to_string(), reference.path);
        }
    }

    fn has(&self, reference: &Reference) -> bool {
        let path = &reference.path;
        let named = || {
            self.names
                .iter()
                .any(|name| self.bound.get(name) == Some(path))
        };
        self.paths.contains(path) || named()
    }
}

/// The text of an expression that needs the flake's revision: `self.rev` without a default, or a check for it that
/// fails without one.
fn revision(node: &SyntaxNode) -> Option<String> {
    let above = || node.ancestors().skip(1);
    let first = node.first_child()?;
    if node.kind() == NODE_INHERIT {
        let is_of_flake = first.first_child().is_some_and(|from| is_flake(&from));
        let mut names = node.children().map(|name| name.text().to_string());
        let needs = is_of_flake && names.any(|name| REVISIONS.contains(&&*name));
        return needs.then(|| node.text().to_string());
    }
    let name = first.next_sibling()?;
    // `inputs.self.rev` is a single selection; `inputs.self ? rev` is a check of a selection.
    let whole = format!("{}.{}", first.text(), name.text());
    let (flake, attribute) = whole.rsplit_once('.')?;
    if !FLAKE.contains(&flake) || !REVISIONS.contains(&attribute) {
        return None;
    }
    let needs = match node.kind() {
        NODE_SELECT => {
            let is_asked_for = |choice: SyntaxNode| {
                choice.kind() == NODE_IF_ELSE
                    && choice.first_child().is_some_and(|it| asks_for(&it))
            };
            name.next_sibling().is_none() && !above().any(is_asked_for)
        }
        _ => above().any(|node| match node.kind() {
            NODE_ASSERT => true,
            NODE_IF_ELSE => node.children().nth(2).is_some_and(|other| ends(&other)),
            _ => false,
        }),
    };
    needs.then(|| node.text().to_string())
}

/// Whether a condition checks for a revision.
fn asks_for(condition: &SyntaxNode) -> bool {
    let asks = |node: SyntaxNode| {
        let mut parts = node.children();
        node.kind() == NODE_HAS_ATTR && parts.next().is_some_and(|flake| is_flake(&flake))
    };
    condition.descendants().any(asks)
}

/// Whether an expression throws or aborts.
fn ends(expression: &SyntaxNode) -> bool {
    let ends = |token: SyntaxToken| matches!(token.text(), "throw" | "abort");
    expression.first_token().is_some_and(ends)
}

/// The SSH address in a string, if it is fetched: as an input, or by a call.
fn over_ssh(string: &SyntaxNode) -> Option<String> {
    let mut parts = string.children_with_tokens().skip(1);
    let text = parts.next()?.into_token()?;
    let is_fetched = |node: SyntaxNode| match node.kind() {
        NODE_APPLY => {
            let function = node
                .first_child()
                .and_then(|function| function.last_token());
            function.is_some_and(|name| FETCHERS.contains(&name.text()))
        }
        NODE_ATTRPATH_VALUE => {
            let name = node.first_child().and_then(|name| name.first_token());
            name.is_some_and(|name| name.text() == "inputs")
        }
        _ => false,
    };
    let is_url = is_over_ssh(text.text()) && string.ancestors().any(is_fetched);
    is_url.then(|| text.text().to_owned())
}

/// Whether a node is only an example in an option's documentation.
fn is_example(node: &SyntaxNode) -> bool {
    let is_example = |node: SyntaxNode| {
        let name = node
            .first_child()
            .filter(|_| node.kind() == NODE_ATTRPATH_VALUE);
        name.is_some_and(|name| name.text() == "example")
    };
    node.ancestors().any(is_example)
}

/// Whether git uses SSH for an address.
pub(super) fn is_over_ssh(url: &str) -> bool {
    let is_short = || {
        let (host, path) = url.split_once(':')?;
        Some(host.contains('@') && !host.contains('/') && !path.starts_with("//"))
    };
    ["git+ssh://", "ssh://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
        || is_short() == Some(true)
}

#[cfg(test)]
mod tests;
