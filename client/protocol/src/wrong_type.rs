//! Errors of serde about values in a settings file, in plain words.

/// Translates an error of serde about a value's type: `port is the text "x", and must be a number from 0 to 65535`.
/// None if it is another error. `before` is the text of the file up to the value.
#[must_use]
pub fn wrong_type(message: &str, before: &str) -> Option<String> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let (found, expected) = (found_in_words(found), expected_in_words(expected));
    Some(format!(
        "{} is {found}, and must be {expected}",
        key(before)
    ))
}

/// The key of the next value.
fn key(before: &str) -> &str {
    let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    let key = line.rsplit_once('=').map_or("", |(key, _)| key.trim());
    let word = key.rsplit([' ', '{', ',', '\t']).next().unwrap_or_default();
    if word.is_empty() { "this" } else { word }
}

fn found_in_words(found: &str) -> String {
    let value = |kind: &str| {
        let value = found.strip_prefix(kind)?.trim();
        Some(value.trim_matches('`').to_owned())
    };
    if let Some(text) = value("string ") {
        return format!("the text {text}");
    }
    for kind in ["integer ", "floating point ", "boolean "] {
        if let Some(value) = value(kind) {
            return value;
        }
    }
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        other => other.to_owned(),
    }
}

fn expected_in_words(expected: &str) -> String {
    let words = match expected {
        "u8" => "a number from 0 to 255, without quotes",
        "u16" => "a number from 0 to 65535, without quotes",
        "u32" | "u64" | "usize" => "a whole number, without quotes",
        "a string" => "a text in quotes",
        "a boolean" => "true or false, without quotes",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 41.
    #[test]
    fn a_value_of_the_wrong_type_is_explained_in_words() {
        for (message, words) in [
            (
                "invalid type: string \"x\", expected u16",
                "is the text \"x\", and must be a number from 0 to 65535, without quotes",
            ),
            (
                "invalid value: integer `70000`, expected u16",
                "is 70000, and must be a number from 0 to 65535, without quotes",
            ),
            (
                "invalid type: integer `1`, expected a string",
                "is 1, and must be a text in quotes",
            ),
            (
                "invalid type: string \"yes\", expected a boolean",
                "is the text \"yes\", and must be true or false, without quotes",
            ),
            (
                "invalid type: string \"ssh-ed25519 A, expected b\", expected a sequence",
                "is the text \"ssh-ed25519 A, expected b\", and must be a list in [ ]",
            ),
            (
                "invalid type: boolean `true`, expected struct Confirm",
                "is true, and must be a table",
            ),
        ] {
            let said = wrong_type(message, "[server]\nport = ").unwrap();
            assert_eq!(said, format!("port {words}"));
        }
        assert_eq!(wrong_type("unknown field `prot`", ""), None);
        let of = |before: &str| wrong_type("invalid type: integer `1`, expected a string", before);
        let window = of("a = 1\nreboot_window = { from = ").unwrap();
        assert!(window.starts_with("from is 1"), "{window}");
        assert!(of("keys = [\n  ").unwrap().starts_with("this is 1"));
    }
}
