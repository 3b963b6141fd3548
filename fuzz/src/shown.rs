//! Text that reaches a terminal or a log.

/// Whether a character can steer a terminal, or make a reader see another text than is there.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Stops at a text that isn't one line fit for a terminal.
pub fn assert_one_line(text: &str) {
    assert!(
        !text.chars().any(steers),
        "not fit for a terminal: {text:?}"
    );
}

/// Stops at a text of which a line isn't fit for a terminal.
pub fn assert_lines(text: &str) {
    text.split('\n').for_each(assert_one_line);
}
