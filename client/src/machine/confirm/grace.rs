//! The time within which what fails on a new system is tried again.

use std::thread;
use std::time::{Duration, Instant};

/// The first pause between two tries; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A clock that was started.
pub(super) trait Clock {
    /// The time since it was started.
    fn elapsed(&self) -> Duration;
    /// Waits for some time.
    fn sleep(&mut self, time: Duration);
}

/// The machine's own, monotonic clock.
#[derive(Debug)]
pub(super) struct Stopwatch(Instant);

impl Clock for Stopwatch {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&mut self, time: Duration) {
        thread::sleep(time);
    }
}

/// A time that has begun.
#[derive(Debug)]
pub(super) struct Grace<C> {
    clock: C,
    length: Duration,
}

impl Grace<Stopwatch> {
    /// One that begins now.
    pub(super) fn begin(length: Duration) -> Self {
        Grace::new(Stopwatch(Instant::now()), length)
    }
}

impl<C: Clock> Grace<C> {
    pub(super) fn new(clock: C, length: Duration) -> Self {
        Grace { clock, length }
    }

    /// Its length.
    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// Tries until it succeeds or the time is over, at least once. The last try begins when the time is over, unless
    /// the one before took until then.
    pub(super) fn keep_trying<T, E>(
        &mut self,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut pause = FIRST_PAUSE;
        let mut is_over = self.clock.elapsed() >= self.length;
        loop {
            let result = attempt();
            let left = self.length.saturating_sub(self.clock.elapsed());
            if result.is_ok() || is_over || left.is_zero() {
                return result;
            }
            self.clock.sleep(pause.min(left));
            is_over = pause >= left;
            pause = (pause + pause / 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// A clock that only passes while somebody sleeps.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct FakeClock(Rc<Cell<Duration>>);

    impl Clock for FakeClock {
        fn elapsed(&self) -> Duration {
            self.0.get()
        }

        fn sleep(&mut self, time: Duration) {
            self.0.set(self.0.get() + time);
        }
    }

    /// Times of the tries of something that takes so many seconds and never succeeds.
    fn tries(grace: u64, takes: u64) -> Vec<f64> {
        let clock = FakeClock::default();
        let mut tried = Vec::new();
        let mut grace = Grace::new(clock.clone(), Duration::from_secs(grace));
        let failed: Result<(), ()> = grace.keep_trying(|| {
            tried.push(clock.elapsed().as_secs_f64());
            clock.clone().sleep(Duration::from_secs(takes));
            Err(())
        });
        assert!(failed.is_err());
        tried
    }

    // Issue 10, line 33.
    #[test]
    fn the_last_try_is_made_when_the_time_is_over() {
        for grace in [1, 3, 20, 59, 60, 61, 300] {
            let tried = tries(grace, 0);
            assert_eq!(tried.last(), Some(&(grace as f64)), "{tried:?}");
            assert!(
                tried.windows(2).all(|pair| pair[1] - pair[0] <= 10.0),
                "{tried:?}"
            );
        }
        assert_eq!(tries(60, 30), [0.0, 30.5]);
        assert_eq!(tries(60, 61), [0.0]);
        assert_eq!(tries(0, 0), [0.0]);
    }

    #[test]
    fn what_comes_second_has_what_the_first_left_and_one_try_at_least() {
        let clock = FakeClock::default();
        let mut grace = Grace::new(clock.clone(), Duration::from_secs(60));
        let mut count = 0;
        for _ in 0..2 {
            count = 0;
            let failed: Result<(), ()> = grace.keep_trying(|| {
                count += 1;
                Err(())
            });
            assert!(failed.is_err());
        }
        assert_eq!(count, 1);
        assert_eq!(clock.elapsed(), Duration::from_secs(60));
        assert_eq!(grace.keep_trying(|| Ok::<_, ()>(7)), Ok(7));
    }
}
