//! Keeps what one machine does, or all strangers together, from filling the log.

use std::time::{Duration, Instant};

/// How many lines may be caused in [`SPELL`]: as many as a machine may leave files in one visit.
const LINES: u32 = 64;
/// After how long there may be as many again.
const SPELL: Duration = Duration::from_secs(60);

/// Counts the lines that somebody causes.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    spell: Option<(Instant, u32)>,
    kept_back: u64,
}

impl LogLimiter {
    /// Whether another line may be written; if not, it counts as kept back.
    pub(crate) fn may_write(&mut self, now: Instant) -> bool {
        let (_, lines) = match &mut self.spell {
            Some(spell) if now.duration_since(spell.0) < SPELL => spell,
            spell => spell.insert((now, 0)),
        };
        let may = *lines < LINES;
        if may {
            *lines += 1;
        } else {
            self.kept_back += 1;
        }
        may
    }

    /// How many lines were kept back since this was asked last.
    pub(crate) fn kept_back(&mut self) -> u64 {
        std::mem::take(&mut self.kept_back)
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
        assert_eq!(written(start + SPELL / 2), 0);
        assert_eq!(written(start + SPELL), 64);
        assert_eq!(limiter.kept_back(), 3000 - 128);
        assert_eq!(limiter.kept_back(), 0);
    }
}
