//! Text that a machine or a file gave, made fit for a log or a terminal.

/// The text as one line that can't steer a terminal, cut to at most `limit` characters.
///
/// Line ends and other blanks become one space each run; what is left of control characters, and characters that
/// change the direction of writing or can't be seen, are written as `\u{…}`.
pub fn one_line(text: &str, limit: usize) -> String {
    let words = text.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    let mut safe = words.flat_map(str::chars).flat_map(escape);
    let mut line: String = safe.by_ref().take(limit).collect();
    if safe.next().is_some() {
        line.pop();
        line.push('…');
    }
    line
}

fn escape(character: char) -> impl Iterator<Item = char> {
    let shown = is_shown(character);
    let escaped = (!shown).then(|| character.escape_unicode());
    shown
        .then_some(character)
        .into_iter()
        .chain(escaped.into_iter().flatten())
}

/// Whether a character is what it looks like, and does nothing else.
pub(crate) fn is_shown(character: char) -> bool {
    !character.is_control() && !is_invisible(character)
}

/// Unicode's format characters: without them, what is read is what is there.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(one_line("error:\r\n\tno such\n", 100), "error: no such");
        assert_eq!(
            one_line("\u{1b}[2J\u{7}\u{9b}31m", 100),
            r"\u{1b}[2J\u{7}\u{9b}31m"
        );
        assert_eq!(one_line("gnp.exe\u{202e}", 100), r"gnp.exe\u{202e}");
        assert_eq!(one_line("grün 日本", 100), "grün 日本");
    }

    #[test]
    fn a_line_has_its_limit() {
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcde…");
        assert_eq!(one_line(&"x".repeat(1 << 20), 10).chars().count(), 10);
    }
}
