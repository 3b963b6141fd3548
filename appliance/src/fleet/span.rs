use std::fmt;
use std::time::Duration;

use jiff::{SpanRelativeTo, Unit};
use serde::{Deserialize, Serialize};

/// A length of time as a person writes it, such as `"1d"`, `"90m"` or `"36h"`; to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl Span {
    /// A span of whole days of 24 hours.
    pub const fn days(days: u64) -> Self {
        Span(Duration::from_secs(days * 24 * 60 * 60))
    }

    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Span(Duration::from_secs(seconds))
    }

    /// The same as a duration.
    pub fn as_duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let seconds = text
            .parse::<jiff::Span>()
            .and_then(|span| span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())))
            .ok()
            .filter(|seconds| *seconds >= 1.0);
        match seconds {
            Some(seconds) => Ok(Span(Duration::from_secs_f64(seconds.round()))),
            None => Err(format!(
                "{text:?} isn't a length of time such as \"36h\" or \"1d\""
            )),
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}s", self.0.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_people_do() {
        for (text, seconds) in [
            ("1d", 86400),
            ("36h", 129_600),
            ("90m", 5400),
            ("1h 30m", 5400),
            ("86400s", 86400),
        ] {
            assert_eq!(
                Span::try_from(text.to_owned())
                    .unwrap()
                    .as_duration()
                    .as_secs(),
                seconds
            );
        }
        for bad in ["", "1", "-1d", "0s", "soon"] {
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
