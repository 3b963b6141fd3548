//! Tells whether something has stopped changing, so that a half-copied tree isn't published.

use std::time::{Duration, Instant, SystemTime};

/// How long nothing may change before it counts as settled: longer than the pauses of a copy in progress, and
/// short enough for a change to be published within 5 s.
pub(super) const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Watches one thing by its looks.
#[derive(Debug)]
pub(super) struct Settling<T> {
    last: Option<(T, Instant)>,
}

impl<T> Default for Settling<T> {
    fn default() -> Self {
        Settling { last: None }
    }
}

impl<T: Clone + PartialEq> Settling<T> {
    /// Whether it looked the same for the settle time. At the first look, when nothing else is known, the time of
    /// its last change decides, so that a restart doesn't have to wait.
    pub(super) fn is_settled(
        &mut self,
        looks: &T,
        changed: Option<SystemTime>,
        now: Instant,
    ) -> bool {
        match &self.last {
            Some((last, since)) if last == looks => now.duration_since(*since) >= SETTLE_TIME,
            other => {
                let is_first = other.is_none();
                let age =
                    changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
                let is_old = is_first && age.is_some_and(|age| age >= SETTLE_TIME);
                let since = if is_old {
                    now.checked_sub(SETTLE_TIME).unwrap_or(now)
                } else {
                    now
                };
                self.last = Some((looks.clone(), since));
                is_old
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_for_the_settle_time_is_settled() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        assert!(!settling.is_settled(&1, None, start));
        assert!(!settling.is_settled(&1, None, start + SETTLE_TIME / 2));
        assert!(settling.is_settled(&1, None, start + SETTLE_TIME));
        assert!(
            !settling.is_settled(&2, Some(SystemTime::UNIX_EPOCH), start + SETTLE_TIME),
            "only the first look"
        );
        assert!(settling.is_settled(&2, None, start + 2 * SETTLE_TIME));
    }

    #[test]
    fn what_was_old_when_first_seen_is_settled() {
        let now = Instant::now();
        assert!(Settling::default().is_settled(&1, Some(SystemTime::now() - 2 * SETTLE_TIME), now));
        assert!(!Settling::default().is_settled(&1, Some(SystemTime::now()), now));
        assert!(
            !Settling::default().is_settled(&1, Some(SystemTime::now() + SETTLE_TIME), now),
            "a clock ahead"
        );
    }
}
