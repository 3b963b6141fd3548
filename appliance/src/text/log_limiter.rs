//! Limits the log lines of one machine, or of all strangers together.

use std::time::{Duration, Instant};

/// The most lines in a [`PERIOD`]: one for each file of a machine's upload quota.
const LINES: u32 = 64;
/// The period of the limit.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts the lines of a source.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    period: Option<(Instant, u32)>,
    suppressed: u64,
}

impl LogLimiter {
    /// Whether another line may be written; if not, it counts as suppressed.
    pub(crate) fn may_write(&mut self, now: Instant) -> bool {
        let (_, lines) = match &mut self.period {
            Some(period) if now.duration_since(period.0) < PERIOD => period,
            period => period.insert((now, 0)),
        };
        let may = *lines < LINES;
        if may {
            *lines += 1;
        } else {
            self.suppressed += 1;
        }
        may
    }

    /// Takes the number of suppressed lines since the last call.
    pub(crate) fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suppressed_line_is_counted() {
        let (mut limiter, start) = (LogLimiter::default(), Instant::now());
        let mut written = |at| (0..1000).filter(|_| limiter.may_write(at)).count();
        assert_eq!(written(start), 64);
        assert_eq!(written(start + PERIOD / 2), 0);
        assert_eq!(written(start + PERIOD), 64);
        assert_eq!(limiter.take_suppressed(), 3000 - 128);
        assert_eq!(limiter.take_suppressed(), 0);
    }
}
