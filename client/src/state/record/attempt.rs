use bento_protocol::{GenerationId, Outcome, SystemPath};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Awaiting, Unkept};

/// An update that failed, and whether it is worth another try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The generation.
    pub generation: GenerationId,
    /// Whether it was a self-update of a generation that is installed.
    pub auto: bool,
    /// Its outcome.
    pub outcome: Outcome,
    /// The system, if one was built.
    pub built: Option<SystemPath>,
    /// The fault.
    pub error: String,
    /// Whether another try may end otherwise though nothing was changed in the fleet: the network, a full disk,
    /// inputs that no lock file pins.
    #[serde(rename = "is_passing")]
    pub retry: bool,
    /// Number of such failures.
    pub count: u32,
    /// Time of the last one, by this machine's clock.
    pub at: Timestamp,
}

impl Failed {
    /// The pause after the second failure; each further one doubles it. After the first there is none: one retry
    /// cures most transient failures.
    const PAUSE: SignedDuration = SignedDuration::from_mins(5);
    /// The longest pause.
    const LONGEST: SignedDuration = SignedDuration::from_hours(6);

    /// Failure of a boot whose proof failed and that the machine hasn't gone back from yet; none if the proof didn't fail.
    pub(crate) fn of_boot(awaiting: &Awaiting, now: Timestamp) -> Option<Self> {
        let Unkept { error, retry } = awaiting.failure.clone()?;
        Some(Failed {
            generation: awaiting.installed.generation,
            auto: awaiting.auto,
            outcome: Outcome::RollbackFailed,
            built: Some(awaiting.installed.system.clone()),
            error,
            retry,
            count: 0,
            at: now,
        })
    }

    /// Time of the next try by itself, if there is one. A pull is part of every run until it succeeds.
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.retry.then(|| {
            let pause = match self.count {
                _ if self.outcome == Outcome::PullFailed => SignedDuration::ZERO,
                0 | 1 => SignedDuration::ZERO,
                // 2^7 pauses are more than the longest.
                count => (Self::PAUSE * (1 << (count - 2).min(7))).min(Self::LONGEST),
            };
            self.at.saturating_add(pause).unwrap_or(self.at)
        })
    }

    /// Whether it is to be tried now. A clock that was set back since doesn't make it wait for longer.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.retry_at().is_some_and(|at| at <= now || now < self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(retry: bool, count: u32) -> Failed {
        Failed {
            generation: "a".repeat(64).parse().unwrap(),
            auto: false,
            outcome: Outcome::BuildFailed,
            built: None,
            error: "no network".into(),
            retry,
            count,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_transient_failure_is_tried_again_with_backoff() {
        let pauses: Vec<_> = [1, 2, 3, 4, 8, 9, 100, u32::MAX]
            .map(|count| failed(true, count).retry_at().unwrap().as_second() / 60)
            .into();
        assert_eq!(pauses, [0, 5, 10, 20, 320, 360, 360, 360]);
        assert_eq!(failed(false, 1).retry_at(), None);
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let mut failed = failed(true, 3);
        let hour = SignedDuration::from_hours(1);
        assert!(!failed.is_due(failed.at));
        assert!(failed.is_due(failed.at + hour));
        failed.at += hour;
        assert!(failed.is_due(Timestamp::UNIX_EPOCH));
        assert!(!self::failed(false, 1).is_due(Timestamp::UNIX_EPOCH + hour));
    }
}
