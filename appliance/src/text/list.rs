//! Lists of things in words.

/// All items: `a, b and c`.
pub(crate) fn sentence(words: impl IntoIterator<Item: ToString>) -> String {
    let mut words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} and {last}", words.join(", ")),
        None => String::new(),
    }
}

/// The first items: `a, b`, or `a, b and 3 more`.
pub(crate) fn first_few(words: impl ExactSizeIterator<Item: ToString>, most: usize) -> String {
    let more = words.len().saturating_sub(most);
    let named: Vec<_> = words.take(most).map(|word| word.to_string()).collect();
    match more {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_listed_in_words() {
        let words = ["a", "b", "c"];
        let sentences = [0, 1, 2, 3].map(|count| sentence(&words[..count]));
        assert_eq!(sentences, ["", "a", "a and b", "a, b and c"]);
        assert_eq!(first_few(words.iter(), 3), "a, b, c");
        assert_eq!(first_few(words.iter(), 2), "a, b and 1 more");
    }
}
