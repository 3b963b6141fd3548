use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::text_type;

/// A length of time, written as `"90s"`, `"1h 30m"` or `"2w"`, with bounds in milliseconds.
///
/// A day has 24 hours. Months and years have no fixed length, and aren't accepted.
///
/// ```
/// use bento_protocol::BoundedDuration;
/// let limit: BoundedDuration<1_000, 60_000> = "1m".parse().unwrap();
/// assert_eq!(limit.duration().as_secs(), 60);
/// assert!("2m".parse::<BoundedDuration<1_000, 60_000>>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundedDuration<const MIN: u64, const MAX: u64>(Duration);

text_type!(BoundedDuration<const MIN: u64, const MAX: u64>);

/// A text that isn't a length of time, or is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} isn't a length of time from \"{min}\" to \"{max}\", such as \"{min}\"")]
pub struct DurationError {
    text: String,
    min: String,
    max: String,
}

impl<const MIN: u64, const MAX: u64> BoundedDuration<MIN, MAX> {
    /// The shortest one.
    pub const MIN: Duration = Duration::from_millis(MIN);
    /// The longest one.
    pub const MAX: Duration = Duration::from_millis(MAX);

    /// A length of time from the program itself, clamped to the bounds.
    pub fn clamped(duration: Duration) -> Self {
        BoundedDuration(duration.clamp(Self::MIN, Self::MAX))
    }

    /// The length.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for BoundedDuration<MIN, MAX> {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_duration(text)
            .filter(|duration| (Self::MIN..=Self::MAX).contains(duration))
            .map(BoundedDuration)
            .ok_or_else(|| DurationError {
                text: text.chars().take(80).collect(),
                min: written(Self::MIN),
                max: written(Self::MAX),
            })
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for BoundedDuration<MIN, MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&written(self.0))
    }
}

/// Parses a length of time, without bounds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.parse().ok()?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    Duration::try_from(span.to_duration(days).ok()?).ok()
}

/// A length of time as text, in the largest unit that divides it, down to the millisecond.
fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, length) = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ]
    .into_iter()
    .find(|(_, length)| millis > 0 && millis.is_multiple_of(*length))
    .unwrap_or(("ms", 1));
    format!("{}{unit}", millis / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Limit = BoundedDuration<1_000, 86_400_000>;

    #[test]
    fn durations_are_parsed() {
        for (text, seconds) in [
            ("20s", 20),
            ("10m", 600),
            ("1m 30s", 90),
            ("24h", 86_400),
            ("1d", 86_400),
        ] {
            let limit: Limit = text.parse().unwrap();
            assert_eq!(limit.duration(), Duration::from_secs(seconds));
        }
        for bad in [
            "", "20", "0s", "-5s", "25h", "2d", "1mo", "soon", "1ms", "daily",
        ] {
            assert!(bad.parse::<Limit>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_written_duration_parses_to_the_same() {
        for (text, shown) in [
            ("0.2s", "200ms"),
            ("1s 500ms", "1500ms"),
            ("90m", "90m"),
            ("120m", "2h"),
            ("48h", "2d"),
        ] {
            let duration: BoundedDuration<1, { u64::MAX }> = text.parse().unwrap();
            assert_eq!(duration.to_string(), shown);
            assert_eq!(shown.parse(), Ok(duration));
        }
    }

    #[test]
    fn an_error_names_the_bounds() {
        let error = "2m".parse::<BoundedDuration<100, 60_000>>().unwrap_err();
        let expected = r#""2m" isn't a length of time from "100ms" to "1m", such as "100ms""#;
        assert_eq!(error.to_string(), expected);
    }
}
