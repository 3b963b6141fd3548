//! The date of everything in the image.

use std::env;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

/// The variable of the reproducible-builds specification.
const VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// The date of the image and of each file in it, so that the time of the build doesn't enter a
/// digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceDate(Timestamp);

impl SourceDate {
    /// One second after the start of 1970: the date of every file in a Nix store, so that a tree
    /// from Nix and a tree from this machine agree. Not 0, which several tools take for "no date".
    pub const DEFAULT: SourceDate = SourceDate(Timestamp::constant(1, 0));

    /// Reads `SOURCE_DATE_EPOCH`; [`SourceDate::DEFAULT`] if it isn't set.
    ///
    /// # Errors
    /// When its value isn't a whole number of seconds since 1970.
    pub fn from_environment() -> Result<SourceDate> {
        match env::var(VARIABLE) {
            Ok(value) => SourceDate::parse(&value),
            Err(env::VarError::NotPresent) => Ok(SourceDate::DEFAULT),
            Err(error) => Err(error).context(VARIABLE),
        }
    }

    fn parse(value: &str) -> Result<SourceDate> {
        let date = value
            .parse::<u32>()
            .ok()
            .and_then(|seconds| Timestamp::from_second(i64::from(seconds)).ok());
        match date {
            Some(date) => Ok(SourceDate(date)),
            None => bail!(
                "{VARIABLE} is \"{value}\"; it must be a whole number of seconds since 1970, \
                 as `git log -1 --format=%ct` prints"
            ),
        }
    }

    /// For a file's header.
    pub fn seconds(self) -> u64 {
        // Not negative: from an unsigned number, or the constant.
        self.0.as_second().unsigned_abs()
    }

    /// For JSON: RFC 3339 in UTC.
    pub fn rfc3339(self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_seconds_is_a_date() {
        let date = SourceDate::parse("1700000000").unwrap();
        assert_eq!(date.seconds(), 1_700_000_000);
        assert_eq!(date.rfc3339(), "2023-11-14T22:13:20Z");
        assert_eq!(SourceDate::DEFAULT.rfc3339(), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn anything_else_names_the_variable_and_the_value() {
        for bad in ["", "-1", "today", "1.5", "99999999999999999999"] {
            let error = SourceDate::parse(bad).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("SOURCE_DATE_EPOCH is \"{bad}\"")),
                "{error}"
            );
        }
    }
}
