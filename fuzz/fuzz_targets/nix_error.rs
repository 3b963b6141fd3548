//! Output of Nix, and of any builder, before a failure.

#![no_main]

use bento_client::nix_error::essence;
use libfuzzer_sys::fuzz_target;

/// The most lines of an error and of a builder's log.
const LINES: usize = 40;

fuzz_target!(|text: &str| {
    let essence = essence(text.lines());
    assert!(essence.lines().count() <= LINES, "{essence}");
    assert!(essence.len() <= text.len() + LINES * "\n> ".len());
    for line in essence.lines() {
        let said = line.strip_prefix("> ").unwrap_or(line);
        assert!(
            text.contains(said) || text.contains(line),
            "nobody said {line:?}"
        );
    }
    if text.lines().any(|line| line.starts_with("error: ")) {
        assert!(essence.contains("error:"), "an error is lost: {essence:?}");
    }
});
