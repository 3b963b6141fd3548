//! The first syntax error of a Nix file, in words.

use std::ops::Range;

use rnix::SyntaxKind::*;
use rnix::{ParseError, SyntaxKind, TextRange};

/// A syntax error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The column in characters, counted from 1.
    pub(super) column: usize,
    /// The error in words.
    pub(super) what: String,
}

impl Fault {
    /// The syntax error for an error of the parser.
    pub(super) fn of(text: &str, error: &ParseError) -> Self {
        let found = |range: &TextRange| Range::<usize>::from(*range);
        let end = text.trim_end().len();
        let (range, what) = match error {
            ParseError::UnexpectedWanted(kind, range, wanted) => {
                let range = found(range);
                let found_text = found_text(text, *kind, &range);
                let what = match expected(wanted) {
                    Expected::EndOfString => "unterminated string".to_owned(),
                    Expected::Other(wanted) => {
                        format!("expected {wanted}, found {found_text}")
                    }
                };
                (range, what)
            }
            ParseError::Unexpected(range) | ParseError::UnexpectedExtra(range) => {
                let range = found(range);
                let found_text = found_text(text, TOKEN_ERROR, &range);
                (
                    range,
                    format!("expected the end of the file, found {found_text}"),
                )
            }
            ParseError::UnexpectedDoubleBind(range) => {
                (found(range), "the arguments have two names".to_owned())
            }
            ParseError::DuplicatedArgs(range, name) => {
                (found(range), format!("duplicate argument {name}"))
            }
            ParseError::UnexpectedEOFWanted(wanted) => {
                let what = match expected(wanted) {
                    Expected::EndOfString => "the file ends in a string".to_owned(),
                    Expected::Other(wanted) => {
                        format!("expected {wanted}, found the end of the file")
                    }
                };
                (end..end, what)
            }
            ParseError::RecursionLimitExceeded => (0..0, "too deeply nested".to_owned()),
            // Also errors of later versions of the parser.
            _ => (
                end..end,
                "unexpected end of the file: an opening bracket isn't closed".to_owned(),
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

/// The expected tokens.
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

/// The found text: its first word, if it can be shown.
fn found_text(text: &str, kind: SyntaxKind, range: &Range<usize>) -> String {
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

/// The text of a kind of token.
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
    fn a_syntax_error_has_its_place_and_the_expected_token() {
        for (text, line, column, what) in [
            ("{\n  a = ;\n}\n", 2, 7, "expected a value, found `;`"),
            ("{\n  é = 1\n}\n", 2, 3, "expected a name, found `é`"),
            ("{\n  a = 1\n}\n", 3, 1, "expected `;`, found `}`"),
            (
                "{ a = [ ./x.nix, ./y.nix ]; }",
                1,
                16,
                "expected a value, found `,`",
            ),
            ("{ a b = 1; }", 1, 5, "expected `=`, found `b`"),
            (
                "{ a = 1;",
                1,
                9,
                "unexpected end of the file: an opening bracket isn't closed",
            ),
            ("{ a = \"x;\n}", 1, 8, "unterminated string"),
            (
                "if a then b",
                1,
                12,
                "expected `else`, found the end of the file",
            ),
            ("{ } }", 1, 5, "expected the end of the file, found `}`"),
            (
                "<<<<<<< HEAD\n{ }",
                1,
                1,
                "expected a value, found `<<<<<<<`",
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
