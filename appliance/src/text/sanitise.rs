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

/// The same, but where it is too long the middle is left out: an error begins with what failed, and ends with why.
pub fn both_ends(text: &str, limit: usize) -> String {
    let line = one_line(text, usize::MAX);
    let count = line.chars().count();
    if count <= limit {
        return line;
    }
    let beginning = limit / 2;
    let end = limit.saturating_sub(beginning + 1);
    let begin = line.chars().take(beginning);
    let rest = line.chars().skip(count - end);
    begin.chain(['…']).chain(rest).collect()
}

/// The text with nothing in it that steers a terminal or hides, except tabs.
pub fn line_as_is(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for character in line.chars() {
        match character {
            '\t' => safe.push('\t'),
            other => safe.extend(escape(other)),
        }
    }
    safe
}

/// A log for a terminal: its lines and tabs, and where `colours` are wanted its colours; without anything else that
/// steers a terminal.
pub fn log(text: &str, colours: bool) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut is_coloured = false;
    for line in text.split_inclusive('\n') {
        let (line, end) = match line.strip_suffix('\n') {
            Some(line) => (line.strip_suffix('\r').unwrap_or(line), "\n"),
            None => (line, ""),
        };
        let mut rest = line;
        while let Some(start) = rest.find('\u{1b}') {
            safe += &line_as_is(&rest[..start]);
            rest = &rest[start..];
            let length = colour(rest);
            if length == 0 {
                safe += &line_as_is(&rest[..1]);
                rest = &rest[1..];
                continue;
            }
            if colours {
                safe += &rest[..length];
                is_coloured = true;
            }
            rest = &rest[length..];
        }
        safe += &line_as_is(rest);
        safe += end;
    }
    if is_coloured {
        safe += "\u{1b}[0m";
    }
    safe
}

/// JSON that means the same, with an escape for every character in it that steers a terminal or hides.
pub fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if is_shown(character) || character == '\n' {
            plain.push(character);
            continue;
        }
        // JSON has such characters in its strings only, where this is another way to write them.
        for unit in character.encode_utf16(&mut [0; 2]) {
            plain += &format!("\\u{unit:04x}");
        }
    }
    plain
}

/// How many bytes of the beginning of a text set a colour, or make letters bold or plain again: `ESC [ numbers m`.
/// What blinks or hides isn't one.
fn colour(text: &str) -> usize {
    let Some(numbers) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    // The longest that makes sense sets two colours by three numbers each.
    let Some(end) = numbers.bytes().take(64).position(|byte| byte == b'm') else {
        return 0;
    };
    let mut numbers = numbers[..end].split(';');
    while let Some(number) = numbers.next() {
        match number {
            "" => {}
            // What follows names the colour.
            "38" | "48" => {
                if !numbers.all(|number| number.parse::<u8>().is_ok()) {
                    return 0;
                }
                break;
            }
            number => match number.parse::<u8>() {
                Ok(0..=4 | 7 | 21..=24 | 27 | 30..=49 | 90..=107) => {}
                _ => return 0,
            },
        }
    }
    "\u{1b}[m".len() + end
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
    fn a_log_keeps_its_lines_and_colours_and_nothing_else() {
        let text =
            "\u{1b}[31;1merror:\u{1b}[0m a\tb\r\n\u{1b}[2J\u{1b}[8mhidden\u{9b}31m\rgnp\u{202e}";
        let rest = "a\tb\n\\u{1b}[2J\\u{1b}[8mhidden\\u{9b}31m\\u{d}gnp\\u{202e}";
        assert_eq!(
            log(text, true),
            format!("\u{1b}[31;1merror:\u{1b}[0m {rest}\u{1b}[0m")
        );
        assert_eq!(log(text, false), format!("error: {rest}"));
        for colour in ["\u{1b}[m", "\u{1b}[38;5;8m", "\u{1b}[1;38;2;1;2;3m"] {
            assert_eq!(log(colour, false), "", "{colour:?}");
        }
        for other in [
            "\u{1b}",
            "\u{1b}[",
            "\u{1b}[5m",
            "\u{1b}[38;xm",
            "\u{1b}]0;ü\u{7}m",
            "\u{1b}[1;ü",
        ] {
            assert!(!log(other, true).contains('\u{1b}'), "{other:?}");
        }
    }

    #[test]
    fn json_means_the_same_without_what_steers_a_terminal() {
        let text = "\u{9b}31m \u{202e} \u{e0041} ü\n\t\u{1b}";
        let json = serde_json::to_string(text).unwrap();
        let plain = plain_json(&json);
        assert!(plain.chars().all(is_shown), "{plain}");
        assert_eq!(serde_json::from_str::<String>(&plain).unwrap(), text);
    }

    #[test]
    fn a_long_error_keeps_its_cause() {
        assert_eq!(both_ends("abc\ndef", 7), "abc def");
        assert_eq!(
            both_ends("what failed: 0123456789: why", 12),
            "what f…: why"
        );
        assert_eq!(both_ends(&"x".repeat(1 << 20), 10).chars().count(), 10);
    }

    #[test]
    fn a_line_has_its_limit() {
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcde…");
        assert_eq!(one_line(&"x".repeat(1 << 20), 10).chars().count(), 10);
    }
}
