//! What a Nix file says that can be known without Nix: the paths that it names, and what it takes for granted.

use std::collections::{HashMap, HashSet};

use rnix::SyntaxKind::*;
use rnix::{Root, SyntaxNode, SyntaxToken};

use super::fault::Fault;

/// A Nix file, as far as a check is interested in it.
#[derive(Debug, Default)]
pub(super) struct NixFile {
    /// Every path that it names relative to itself, or to the top of its flake, in the order of the text.
    pub(super) references: Vec<Reference>,
    /// Where it stops being Nix; none if it is Nix to its end.
    pub(super) fault: Option<Fault>,
    /// Where it needs the flake's revision: the line, and what stands there.
    pub(super) revisions: Vec<(usize, String)>,
    /// What it fetches over SSH: the line, and the address.
    pub(super) over_ssh: Vec<(usize, String)>,
    /// What is to be replaced by something of one's own: the line, and what stands there.
    pub(super) placeholders: Vec<(usize, &'static str)>,
}

/// A path in a Nix file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// Such as `../utils`; what begins with `${` isn't a part of it.
    pub(super) path: String,
    /// Whether that is all of it, without anything that is put in.
    pub(super) whole: bool,
    /// Whether it is relative to the top of the flake, as in `"${self}/modules"`, rather than to the file.
    pub(super) from_top: bool,
    /// Whether it needn't be there: the file asks if it is, or it is only an example.
    pub(super) is_optional: bool,
}

/// What bento and its manual write for what they can't know.
const PLACEHOLDERS: [&str; 3] = ["OWNER/bento", "AAAA…", "<the host key>"];
/// What a flake has only where it comes from git.
const REVISIONS: [&str; 5] = ["rev", "shortRev", "dirtyRev", "dirtyShortRev", "revCount"];
/// What fetches with git.
const FETCHERS: [&str; 3] = ["fetchGit", "fetchTree", "fetchgit"];
/// How the flake itself is called.
const FLAKE: [&str; 2] = ["self", "inputs.self"];

impl NixFile {
    /// Reads a file. Of one that isn't Nix, what the parser makes sense of is found.
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

/// Where the lines of a text begin.
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

/// The path that a node writes, be it alone, in a string that begins with it, or put together with one.
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

/// What is added to the first part of a sum: a text that can belong to a path, and whether that is all of it.
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

/// The first token of a node, as it stands there.
fn token(node: &SyntaxNode) -> Option<String> {
    let first = node.first_token()?;
    Some(first.text().to_owned())
}

/// What a file asks about with `pathExists`.
#[derive(Default)]
struct ExistenceChecks {
    paths: HashSet<String>,
    names: HashSet<String>,
    /// The paths for which names stand.
    bound: HashMap<String, String>,
}

impl ExistenceChecks {
    /// Takes in a call, if it is one of `pathExists`.
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

    /// Takes in what a name stands for, if that is a path.
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

/// What needs the flake's revision, as it stands there: `self.rev` without anything in its place, or a question whether
/// there is one after which nothing is built if there is none.
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
    // `inputs.self.rev` is one selection, and `inputs.self ? rev` is a question about another.
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

/// Whether a condition asks for a revision.
fn asks_for(condition: &SyntaxNode) -> bool {
    let asks = |node: SyntaxNode| {
        let mut parts = node.children();
        node.kind() == NODE_HAS_ATTR && parts.next().is_some_and(|flake| is_flake(&flake))
    };
    condition.descendants().any(asks)
}

/// Whether an expression is one that gives nothing.
fn ends(expression: &SyntaxNode) -> bool {
    let ends = |token: SyntaxToken| matches!(token.text(), "throw" | "abort");
    expression.first_token().is_some_and(ends)
}

/// The address of SSH that a string is, where it is one to fetch from: an input's, or that of a call.
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

/// Whether something is only there to be shown in the documentation of an option.
fn is_example(node: &SyntaxNode) -> bool {
    let is_example = |node: SyntaxNode| {
        let name = node
            .first_child()
            .filter(|_| node.kind() == NODE_ATTRPATH_VALUE);
        name.is_some_and(|name| name.text() == "example")
    };
    node.ancestors().any(is_example)
}

/// Whether git takes an address for one of SSH.
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
