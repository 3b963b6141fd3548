//! The first place where a file stops being Nix, in words.

use std::ops::Range;

use rnix::SyntaxKind::*;
use rnix::{ParseError, SyntaxKind, TextRange};

/// Where a file stops being Nix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Counted from 1.
    pub(super) line: usize,
    /// In characters, counted from 1.
    pub(super) column: usize,
    /// What is wrong there.
    pub(super) what: String,
}

impl Fault {
    /// What the parser found wrong with a text.
    pub(super) fn of(text: &str, error: &ParseError) -> Self {
        let found = |range: &TextRange| Range::<usize>::from(*range);
        let end = text.trim_end().len();
        let (range, what) = match error {
            ParseError::UnexpectedWanted(kind, range, wanted) => {
                let range = found(range);
                let stands = standing(text, *kind, &range);
                let what = match expected(wanted) {
                    Expected::EndOfString => "the string that begins here has no end".to_owned(),
                    Expected::Other(wanted) => {
                        format!("{wanted} is expected, and {stands} is there")
                    }
                };
                (range, what)
            }
            ParseError::Unexpected(range) | ParseError::UnexpectedExtra(range) => {
                let range = found(range);
                let stands = standing(text, TOKEN_ERROR, &range);
                (
                    range,
                    format!("the end of the file is expected, and {stands} is there"),
                )
            }
            ParseError::UnexpectedDoubleBind(range) => {
                (found(range), "the arguments have two names".to_owned())
            }
            ParseError::DuplicatedArgs(range, name) => {
                (found(range), format!("the argument {name} is there twice"))
            }
            ParseError::UnexpectedEOFWanted(wanted) => {
                let what = match expected(wanted) {
                    Expected::EndOfString => "the file ends within a string".to_owned(),
                    Expected::Other(wanted) => format!("the file ends where {wanted} is expected"),
                };
                (end..end, what)
            }
            ParseError::RecursionLimitExceeded => (0..0, "is nested too deeply".to_owned()),
            // Of later versions of the parser, too.
            _ => (
                end..end,
                "the file ends too early: something that is opened isn't closed".to_owned(),
            ),
        };
        let before = text.get(..range.start).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Fault {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            what,
        }
    }
}

/// What could have been in a place.
enum Expected {
    EndOfString,
    Other(String),
}

fn expected(wanted: &[SyntaxKind]) -> Expected {
    let has = |kind| wanted.contains(&kind);
    if has(TOKEN_STRING_END) {
        return Expected::EndOfString;
    }
    let tokens: Vec<_> = wanted
        .iter()
        .filter_map(|kind| written(*kind))
        .map(|text| format!("`{text}`"))
        .collect();
    Expected::Other(if has(TOKEN_L_BRACK) && has(TOKEN_L_PAREN) {
        "a value".to_owned()
    } else if has(TOKEN_IDENT) && tokens.is_empty() {
        "a name".to_owned()
    } else if tokens.is_empty() {
        "something else".to_owned()
    } else {
        tokens.join(" or ")
    })
}

/// What stands in a place: its first word, or what it is if that can't be shown.
fn standing(text: &str, kind: SyntaxKind, range: &Range<usize>) -> String {
    const LONGEST: usize = 20;
    let rest = text.get(range.start..).unwrap_or_default();
    let end = match written(kind) {
        Some(token) => token.len(),
        None => rest
            .find(|c: char| c.is_whitespace() || ";,)]}".contains(c))
            .unwrap_or(rest.len())
            .max(1),
    };
    let word: String = rest
        .get(..end)
        .unwrap_or_default()
        .chars()
        .take(LONGEST)
        .collect();
    if word.is_empty() {
        "something else".to_owned()
    } else {
        format!("`{word}`")
    }
}

/// How a kind of token is written.
fn written(kind: SyntaxKind) -> Option<&'static str> {
    Some(match kind {
        TOKEN_ASSIGN => "=",
        TOKEN_COLON => ":",
        TOKEN_COMMA => ",",
        TOKEN_SEMICOLON => ";",
        TOKEN_L_BRACE => "{",
        TOKEN_R_BRACE => "}",
        TOKEN_R_BRACK => "]",
        TOKEN_R_PAREN => ")",
        TOKEN_INTERPOL_END => "}",
        TOKEN_THEN => "then",
        TOKEN_ELSE => "else",
        TOKEN_IN => "in",
        TOKEN_ELLIPSIS => "...",
        TOKEN_DOT => ".",
        TOKEN_AT => "@",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 39.
    #[test]
    fn a_fault_is_told_with_its_place_and_what_is_expected_there() {
        for (text, line, column, what) in [
            (
                "{\n  a = ;\n}\n",
                2,
                7,
                "a value is expected, and `;` is there",
            ),
            (
                "{\n  é = 1\n}\n",
                2,
                3,
                "a name is expected, and `é` is there",
            ),
            ("{\n  a = 1\n}\n", 3, 1, "`;` is expected, and `}` is there"),
            (
                "{ a = [ ./x.nix, ./y.nix ]; }",
                1,
                16,
                "a value is expected, and `,` is there",
            ),
            ("{ a b = 1; }", 1, 5, "`=` is expected, and `b` is there"),
            (
                "{ a = 1;",
                1,
                9,
                "the file ends too early: something that is opened isn't closed",
            ),
            (
                "{ a = \"x;\n}",
                1,
                8,
                "the string that begins here has no end",
            ),
            (
                "if a then b",
                1,
                12,
                "the file ends where `else` is expected",
            ),
            (
                "{ } }",
                1,
                5,
                "the end of the file is expected, and `}` is there",
            ),
            (
                "<<<<<<< HEAD\n{ }",
                1,
                1,
                "a value is expected, and `<<<<<<<` is there",
            ),
        ] {
            let parsed = rnix::Root::parse(text);
            let fault = Fault::of(text, &parsed.errors()[0]);
            let expected = Fault {
                line,
                column,
                what: what.into(),
            };
            assert_eq!(fault, expected, "{text}");
        }
    }
}
