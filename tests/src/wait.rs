//! Waiting for something that happens elsewhere, for a bounded time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks: short enough that a test doesn't dawdle, long enough that it doesn't burn a core.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Looks until there is something to see, and gives it.
///
/// `what` completes the sentence "waited … for …", e.g. `"the appliance to publish kikimora"`.
///
/// # Errors
/// If nothing was seen within `limit`. The last look is taken after the limit, so that a busy
/// machine on which one look takes long still gets an answer.
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> Result<T> {
    look_until(what, limit, LONGEST_PAUSE, look)
}

/// The same for what has to be met while it lasts: looks every few milliseconds, however long it takes.
///
/// # Errors
/// If nothing was seen within `limit`.
pub fn closely<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> Result<T> {
    look_until(what, limit, FIRST_PAUSE, look)
}

fn look_until<T>(
    what: &str,
    limit: Duration,
    longest_pause: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let late = started.elapsed() >= limit;
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if late {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(pause);
        pause = (pause * 2).min(longest_pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_was_seen_at_a_later_look() {
        let mut looks = 0;
        let seen = until("the third look", Duration::from_secs(60), || {
            looks += 1;
            (looks == 3).then_some("seen")
        });
        assert_eq!(seen.unwrap(), "seen");
    }

    #[test]
    fn names_what_never_came() {
        let error = until("a miracle", Duration::ZERO, || None::<()>).unwrap_err();
        assert!(error.to_string().contains("a miracle"), "{error}");
    }
}
