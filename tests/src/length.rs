//! How much a test tries.

use std::env;

/// Whether `make test-long` runs the tests that tests/long names, rather than `make test` all of them.
#[must_use]
pub fn is_long() -> bool {
    env::var("BENTO_TESTS").is_ok_and(|form| form == "long")
}

/// A number for the short form of a test, or one for the long form.
#[must_use]
pub fn at_length<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}
