use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde::Deserialize;

/// A time limit, written as `"20s"` or `"1m 30s"`: from a second to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Limit(Duration);

/// A time limit for an answer within a transfer: at most 60 seconds, because libssh2 gives up by then whatever it is
/// told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TransferLimit(Limit);

/// The least time between two events, written as `"6h"`, `"1d"` or `"2w"`: from a minute to a year. A day has 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Interval(Duration);

/// A text that isn't a usable time limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not a time, or not between a second and a day.
    #[error("{0:?} isn't a time limit such as \"20s\" or \"5m\", from a second to a day")]
    NotALimit(String),
    /// Not a time, or not between a minute and a year.
    #[error("{0:?} isn't a time such as \"6h\", \"1d\" or \"2w\", from a minute to a year")]
    NotAnInterval(String),
    /// More than libssh2 would wait.
    #[error("{0:?} is too long: at most 60s, libssh2 waits no longer for one answer")]
    TooLong(String),
}

impl Limit {
    pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

    /// A limit that the program itself sets, brought into the range of limits.
    pub(crate) fn of(duration: Duration) -> Self {
        Limit(duration.clamp(Duration::from_secs(1), Self::LONGEST))
    }

    /// The time.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// The time in milliseconds, as libssh2 takes it.
    pub(crate) fn milliseconds(self) -> u32 {
        u32::try_from(self.0.as_millis()).unwrap_or(u32::MAX)
    }
}

impl TryFrom<String> for Limit {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        parse(&text)
            .filter(|duration| (Duration::from_secs(1)..=Self::LONGEST).contains(duration))
            .map(Limit)
            .ok_or_else(|| LimitError::NotALimit(text.chars().take(80).collect()))
    }
}

impl Interval {
    const SHORTEST: Duration = Duration::from_secs(60);
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

    /// The time.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Interval {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        parse(&text)
            .filter(|duration| (Self::SHORTEST..=Self::LONGEST).contains(duration))
            .map(Interval)
            .ok_or_else(|| LimitError::NotAnInterval(text.chars().take(80).collect()))
    }
}

/// Reads a length of time as people write it. Months and years have no fixed length and aren't any.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

impl TransferLimit {
    const LONGEST: Duration = Duration::from_secs(60);

    /// The time.
    pub fn duration(self) -> Duration {
        self.0.duration()
    }

    /// The time in milliseconds, as libssh2 takes it.
    pub(crate) fn milliseconds(self) -> u32 {
        self.0.milliseconds()
    }
}

impl Default for TransferLimit {
    fn default() -> Self {
        TransferLimit(Limit::of(Self::LONGEST))
    }
}

impl TryFrom<String> for TransferLimit {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let limit = Limit::try_from(text.clone())?;
        if limit.duration() > Self::LONGEST {
            return Err(LimitError::TooLong(text));
        }
        Ok(TransferLimit(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_people_write_them() {
        for (text, seconds) in [
            ("20s", 20),
            ("10m", 600),
            ("1m 30s", 90),
            ("24h", 86400),
            ("1d", 86400),
        ] {
            let limit = Limit::try_from(text.to_owned()).unwrap();
            assert_eq!(limit.duration(), Duration::from_secs(seconds));
        }
        for bad in ["", "20", "0s", "-5s", "25h", "soon", "1ms"] {
            assert!(Limit::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for (text, seconds) in [("1m", 60), ("1d", 86400), ("2w", 14 * 86400)] {
            let interval = Interval::try_from(text.to_owned()).unwrap();
            assert_eq!(interval.duration(), Duration::from_secs(seconds));
        }
        for bad in ["", "30s", "1mo", "1y", "366d", "-1d", "daily"] {
            assert!(Interval::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(TransferLimit::try_from("60s".to_owned()).is_ok());
        assert_eq!(
            TransferLimit::try_from("61s".to_owned()),
            Err(LimitError::TooLong("61s".into()))
        );
    }
}
