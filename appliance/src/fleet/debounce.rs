use std::fmt;
use std::time::Duration;

use jiff::{SpanRelativeTo, Unit};
use serde::{Deserialize, Serialize};

/// How long nothing may change in a folder before it counts as stable; to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Debounce(Duration);

impl Debounce {
    /// Longer than the pauses of a copy in progress, and short enough for a change to be published within 5 s.
    pub const DEFAULT: Duration = Duration::from_secs(2);
    /// Longer than a tick of any clock by which a kernel dates changes.
    const MIN: Duration = Duration::from_millis(100);
    /// Shorter than what is a problem: a folder that doesn't stop changing.
    const MAX: Duration = Duration::from_secs(30);

    /// The same as a duration.
    pub fn as_duration(self) -> Duration {
        self.0
    }
}

impl Default for Debounce {
    fn default() -> Self {
        Debounce(Self::DEFAULT)
    }
}

impl TryFrom<String> for Debounce {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let seconds = text
            .parse::<jiff::Span>()
            .and_then(|span| span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())));
        seconds
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|length| (Self::MIN..=Self::MAX).contains(length))
            .map(Debounce)
            .ok_or_else(|| {
                format!("{text:?} isn't a length of time from \"100ms\" to \"30s\", such as \"2s\"")
            })
    }
}

impl From<Debounce> for String {
    fn from(debounce: Debounce) -> String {
        debounce.to_string()
    }
}

impl fmt::Display for Debounce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}ms", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_a_person_would_and_has_bounds() {
        let read = |text: &str| Debounce::try_from(text.to_owned());
        for (text, millis) in [
            ("2s", 2000),
            ("0.2s", 200),
            ("100ms", 100),
            ("1s 500ms", 1500),
            ("30s", 30_000),
        ] {
            let debounce = read(text).unwrap();
            assert_eq!(debounce.as_duration(), Duration::from_millis(millis));
            assert_eq!(read(&debounce.to_string()), Ok(debounce));
        }
        for bad in ["", "2", "0s", "99ms", "-2s", "31s", "1m", "soon"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
