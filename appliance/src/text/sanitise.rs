//! Foreign text, escaped for a log or a terminal.

/// The text as one line without control characters, cut to at most `limit` characters.
///
/// Each run of whitespace becomes one space. Control characters, invisible characters and those that change the
/// direction of writing become `\u{…}`.
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

/// Like [`one_line`], but a long text loses its middle: an error begins with what failed, and ends with the cause.
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

/// The text with control and invisible characters escaped, except tabs.
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

/// A log for a terminal: its lines and tabs, and, with `colours`, its colours; all other control characters are
/// escaped.
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

/// The same JSON with control and invisible characters escaped.
pub fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if is_shown(character) || character == '\n' {
            plain.push(character);
            continue;
        }
        // Such characters are only in strings, where JSON allows an escape.
        for unit in character.encode_utf16(&mut [0; 2]) {
            plain += &format!("\\u{unit:04x}");
        }
    }
    plain
}

/// The length of a colour sequence at the beginning of a text: `ESC [ numbers m`, also for bold and plain. Sequences
/// that blink or hide text don't count.
fn colour(text: &str) -> usize {
    let Some(numbers) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    // The longest useful one sets two colours by three numbers each.
    let Some(end) = numbers.bytes().take(64).position(|byte| byte == b'm') else {
        return 0;
    };
    let mut numbers = numbers[..end].split(';');
    while let Some(number) = numbers.next() {
        match number {
            "" => {}
            // The next numbers name the colour.
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

/// Whether a character is visible and has no other effect.
pub(crate) fn is_shown(character: char) -> bool {
    !character.is_control() && !is_invisible(character)
}

/// Whether a character is one of Unicode's format characters.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
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
    fn escaped_json_has_the_same_value() {
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
