//! Waits for what happens elsewhere, for a bounded time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process;

/// Pauses between two attempts: short enough that a test doesn't dawdle, long enough that it doesn't burn a core.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Tries until there is a value, and gives it.
///
/// `what` completes the sentence "waited … for …", e.g. `"the appliance to publish kikimora"`.
///
/// # Errors
/// If there was none within `limit`. The last attempt comes after the limit, so that a busy
/// machine on which one attempt takes long still gets an answer.
pub fn until<T>(what: &str, limit: Duration, attempt: impl FnMut() -> Option<T>) -> Result<T> {
    retry(what, limit, LONGEST_PAUSE, attempt)
}

/// The same for what doesn't last: tries every few milliseconds, however long it takes.
///
/// # Errors
/// If there was no value within `limit`.
pub fn closely<T>(what: &str, limit: Duration, attempt: impl FnMut() -> Option<T>) -> Result<T> {
    retry(what, limit, FIRST_PAUSE, attempt)
}

/// The same, for tests that stop there otherwise. `what` is a sentence: `"the session ends"`.
///
/// # Panics
/// If there was no value within [`process::SHORT`]: what tests wait for comes much sooner.
#[track_caller]
pub fn expect<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    let value = closely(what, process::SHORT, attempt);
    value.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn retry<T>(
    what: &str,
    limit: Duration,
    longest_pause: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let late = started.elapsed() >= limit;
        if let Some(value) = attempt() {
            return Ok(value);
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
    fn gives_the_value_of_a_later_attempt() {
        let mut attempts = 0;
        let value = until("the third attempt", Duration::from_secs(60), || {
            attempts += 1;
            (attempts == 3).then_some("value")
        });
        assert_eq!(value.unwrap(), "value");
    }

    #[test]
    fn names_what_never_came() {
        let error = until("a miracle", Duration::ZERO, || None::<()>).unwrap_err();
        assert!(error.to_string().contains("a miracle"), "{error}");
    }
}
