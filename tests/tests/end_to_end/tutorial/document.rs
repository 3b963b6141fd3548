//! The commands that a document has its reader type, and the output that it shows.

use anyhow::{Context, Result, bail, ensure};

/// What stands for anything.
pub(super) const ANYTHING: char = '…';

/// Something to type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The line of the document on which its fence stands, counted from 1.
    pub(super) line: usize,
    /// Where it is typed.
    pub(super) place: String,
    pub(super) script: String,
    /// The exit code that it should have.
    pub(super) exit: i32,
    /// What is shown below it.
    pub(super) shown: Option<String>,
}

/// The commands of a document, in order.
///
/// # Errors
/// If it has a block that isn't for typing, and not what the block right before it prints.
pub(super) fn blocks(document: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    // Whether nothing stands between the latest block and here.
    let mut follows = false;
    let mut lines = document.lines().zip(1..);
    while let Some((text, line)) = lines.next() {
        ensure!(
            !text.starts_with("    "),
            "line {line}: an indented block, which nobody would run"
        );
        let Some(info) = text.strip_prefix("```") else {
            follows &= text.is_empty();
            continue;
        };
        let mut content = String::new();
        loop {
            match lines.next() {
                Some(("```", _)) => break,
                Some((text, _)) => content = content + text + "\n",
                None => bail!("line {line}: a block that doesn't end"),
            }
        }
        match info.split(' ').collect::<Vec<_>>()[..] {
            ["sh", place] => blocks.push(Block::new(line, place, content, 0)),
            ["sh", place, "exit", code] => {
                let code = code
                    .parse()
                    .with_context(|| format!("line {line}: {code:?} is no exit code"))?;
                ensure!(
                    content.lines().count() == 1,
                    "line {line}: which of these commands has the exit code {code}?"
                );
                blocks.push(Block::new(line, place, content, code));
            }
            ["text"] => {
                let latest = blocks.last_mut().filter(|_| follows).with_context(|| {
                    format!("line {line}: it isn't right below what would print it")
                })?;
                latest.shown = Some(content);
            }
            _ => bail!("line {line}: a block of the kind {info:?}, which nobody would run"),
        }
        follows = info != "text";
    }
    Ok(blocks)
}

impl Block {
    fn new(line: usize, place: &str, script: String, exit: i32) -> Self {
        Self {
            line,
            place: place.to_owned(),
            script,
            exit,
            shown: None,
        }
    }

    /// The first line of what is shown that isn't printed after those before it.
    pub(super) fn missing(&self, printed: &str) -> Option<&str> {
        let mut lines = printed.lines();
        self.shown
            .iter()
            .flat_map(|shown| shown.lines())
            .find(|expected| !lines.any(|line| is_like(expected, line)))
    }
}

/// Whether a line is as expected; how many spaces stand between words doesn't matter.
fn is_like(expected: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (words(expected), words(line));
    let mut parts = expected.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn a_line_is_like_another_where_only_what_may_be_anything_differs() {
    assert!(is_like("a  b", "a b"));
    assert!(is_like(
        "kikimora  …  up-to-date",
        "kikimora   x y   up-to-date"
    ));
    assert!(is_like("… 3 m ago", "kikimora 3 m ago"));
    assert!(is_like("a…b…c", "a-b-c"));
    assert!(!is_like("a…b…c", "a-c-b"));
    assert!(!is_like("a", "a b"));
    assert!(!is_like("a…", "b a"));
    assert!(!is_like("…a", "a b"));
}

#[test]
fn what_nobody_would_run_is_an_error() {
    let error = |document: &str| blocks(document).unwrap_err().to_string();
    assert!(error("x\n```toml\n[a]\n```\n").starts_with("line 2: "));
    assert!(error("```text\na\n```\n").starts_with("line 1: "));
    assert!(error("```sh server\na\n```\nprose\n```text\na\n```\n").starts_with("line 5: "));
    assert!(error("prose\n\n    a\n").starts_with("line 3: "));
    assert!(error("```sh server\na\n").starts_with("line 1: "));
    assert!(error("```sh server exit x\na\n```\n").starts_with("line 1: "));
    assert!(error("```sh server exit 1\na\nb\n```\n").starts_with("line 1: "));
}

#[test]
fn what_is_shown_belongs_to_what_is_typed_above_it() {
    let document = "```sh server exit 3\na\n```\n\n```text\nc\n…\nd\n```\n";
    let blocks = blocks(document).unwrap();
    assert_eq!(
        blocks,
        [Block {
            line: 1,
            place: "server".to_owned(),
            script: "a\n".to_owned(),
            exit: 3,
            shown: Some("c\n…\nd\n".to_owned()),
        }]
    );
    assert_eq!(blocks[0].missing("c\nx\nd\n"), None);
    assert_eq!(blocks[0].missing("d\nc\nx\n"), Some("d"));
}
