//! The terminal that a command's output goes to.

use std::io::{self, IsTerminal, Write};

/// A terminal with its abilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// The width in characters.
    pub columns: usize,
    /// Whether it shows colours.
    pub colours: bool,
    /// Whether it shows more than ASCII.
    pub unicode: bool,
}

impl Terminal {
    /// The terminal of standard output; none for a file or a pipe.
    pub fn of_output() -> Option<Self> {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let columns =
            rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        // A terminal without a known width, such as a serial line, usually has 80 columns.
        let columns = if columns == 0 { 80 } else { columns };
        Some(Terminal {
            columns,
            colours: !is_dumb() && !is_set("NO_COLOR"),
            unicode: is_unicode(|name| std::env::var(name).ok()),
        })
    }
}

/// Whether the locale uses UTF-8. Without a locale, as in a container, the terminal most likely does.
fn is_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    // In this order, as locale(7) says.
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let locale = set
        .filter_map(variable)
        .find(|locale| !locale.is_empty())
        .map(|locale| locale.to_ascii_lowercase());
    locale.is_none_or(|locale| locale.contains("utf-8") || locale.contains("utf8"))
}

/// The text with our symbols as ASCII letters, if the terminal shows only these.
pub fn legible(text: String, terminal: Option<Terminal>) -> String {
    if terminal.is_none_or(|terminal| terminal.unicode) {
        return text;
    }
    let letter = |character| match character {
        '✓' => '+',
        '✗' => 'x',
        '…' => '~',
        '·' => '.',
        '↑' => '^',
        '↓' => 'v',
        other => other,
    };
    text.chars().map(letter).collect()
}

/// Whether the terminal has no control sequences, or there is none.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// A colour of a text, as terminals name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Errors.
    Red,
    /// Success.
    Green,
    /// Warnings.
    Yellow,
    /// Running work.
    Blue,
}

/// The text in a colour, if the terminal shows colours.
pub fn paint(text: &str, colour: Colour, terminal: Option<Terminal>) -> String {
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Blue => 34,
    };
    match terminal {
        Some(Terminal { colours: true, .. }) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        _ => text.to_owned(),
    }
}

/// Prints a line to standard error; a closed pipe is ignored.
pub fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_depend_on_the_locale() {
        let is_unicode = |set: &[(&str, &str)]| {
            is_unicode(|name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(is_unicode(&[]));
        assert!(is_unicode(&[("LANG", "de_DE.UTF-8")]));
        assert!(is_unicode(&[("LC_ALL", ""), ("LANG", "C.utf8")]));
        assert!(!is_unicode(&[("LANG", "C")]));
        assert!(!is_unicode(&[("LC_ALL", "POSIX"), ("LANG", "de_DE.UTF-8")]));
    }
}
