//! Text that reaches a terminal or a log.

/// Whether a character can control a terminal, or disguise the text.
fn controls(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Asserts that a text is one printable line.
pub fn assert_one_line(text: &str) {
    assert!(
        !text.chars().any(controls),
        "not fit for a terminal: {text:?}"
    );
}

/// Asserts that all lines of a text are printable.
pub fn assert_lines(text: &str) {
    text.split('\n').for_each(assert_one_line);
}
