//! Keeps what one machine does, or all strangers together, from filling the log.

use std::time::{Duration, Instant};

/// How many lines may be caused in [`PERIOD`]: as many as a machine may leave files in one visit.
const LINES: u32 = 64;
/// After how long there may be as many again.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts the lines that somebody causes.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    period: Option<(Instant, u32)>,
    suppressed: u64,
}

impl LogLimiter {
    /// Whether another line may be written; if not, it counts as kept back.
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

    /// How many lines were kept back since this was asked last.
    pub(crate) fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_kept_back_without_being_counted() {
        let (mut limiter, start) = (LogLimiter::default(), Instant::now());
        let mut written = |at| (0..1000).filter(|_| limiter.may_write(at)).count();
        assert_eq!(written(start), 64);
        assert_eq!(written(start + PERIOD / 2), 0);
        assert_eq!(written(start + PERIOD), 64);
        assert_eq!(limiter.take_suppressed(), 3000 - 128);
        assert_eq!(limiter.take_suppressed(), 0);
    }
}
