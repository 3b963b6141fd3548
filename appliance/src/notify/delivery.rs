use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{ConditionChange, Subject};

/// The timing of deliveries.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The delays after failed attempts.
    pub retry_delays: [Duration; 3],
    /// The least time between two messages about the same subject.
    pub quiet: Duration,
}

impl Default for Timing {
    /// A short outage of a webhook, such as the restart of a proxy, is over after these delays. A machine that turns
    /// bad and good all the time causes at most a dozen messages an hour.
    fn default() -> Self {
        Timing {
            retry_delays: [10, 30, 90].map(Duration::from_secs),
            quiet: Duration::from_secs(5 * 60),
        }
    }
}

/// The pending messages of a sink, and the time of the next one. It keeps no queue: for each subject only the current
/// condition is pending, however long the sink was blocked.
#[derive(Debug)]
pub struct Delivery {
    timing: Timing,
    pending: BTreeMap<Subject, Pending>,
    /// The time of the last message for each subject within the quiet time.
    sent: BTreeMap<Subject, Instant>,
    /// The subject of the last failed attempt: the next subject is tried before it again, because only this message may
    /// be refused.
    last_failed: Option<Subject>,
    /// Consecutive failures, for all subjects together: the sink is blocked.
    failures: usize,
    retry_at: Option<Instant>,
    /// No more attempts before a change.
    is_given_up: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    bad: bool,
    since: Timestamp,
}

/// The next step of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextDelivery {
    /// Nothing before a change.
    Idle,
    /// Nothing before this time.
    WaitUntil(Instant),
    /// Send the condition of this subject, which changed at this time.
    Send(Subject, Timestamp),
}

/// The response to a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureResponse {
    /// Retry after this time.
    RetryAfter(Duration),
    /// No retry before a change; the number of pending messages.
    GiveUp(usize),
}

impl Delivery {
    /// Creates a delivery without pending messages.
    pub fn new(timing: Timing) -> Self {
        Delivery {
            timing,
            pending: BTreeMap::new(),
            sent: BTreeMap::new(),
            last_failed: None,
            failures: 0,
            retry_at: None,
            is_given_up: false,
        }
    }

    /// Replaces the pending messages.
    pub fn set_pending(
        &mut self,
        differences: &BTreeMap<Subject, ConditionChange>,
        now: Timestamp,
    ) {
        self.pending.retain(|subject, pending| {
            let difference = differences.get(subject);
            difference.is_some_and(|difference| difference.bad == pending.bad)
        });
        for (subject, difference) in differences {
            if !self.pending.contains_key(subject) {
                let pending = Pending {
                    bad: difference.bad,
                    since: difference.since.unwrap_or(now),
                };
                self.pending.insert(subject.clone(), pending);
                if std::mem::take(&mut self.is_given_up) {
                    self.failures = 0;
                }
            }
        }
    }

    /// The next step.
    pub fn next(&self, now: Instant) -> NextDelivery {
        if self.is_given_up {
            return NextDelivery::Idle;
        }
        let later = |until: &Instant| *until > now;
        let quiet = |subject| self.quiet_until(subject).filter(later);
        let after = |last_failed| self.pending.range((Excluded(last_failed), Unbounded));
        let following = self.last_failed.as_ref().map(after).into_iter().flatten();
        let mut in_turn = following.chain(&self.pending);
        let Some((subject, pending)) = in_turn.find(|(subject, _)| quiet(subject).is_none()) else {
            let first = self.pending.keys().filter_map(quiet).min();
            return first.map_or(NextDelivery::Idle, NextDelivery::WaitUntil);
        };
        match self.retry_at.filter(later) {
            Some(until) => NextDelivery::WaitUntil(until),
            None => NextDelivery::Send(subject.clone(), pending.since),
        }
    }

    /// The end of a subject's quiet time.
    fn quiet_until(&self, subject: &Subject) -> Option<Instant> {
        self.sent.get(subject).map(|sent| *sent + self.timing.quiet)
    }

    /// Records a successful attempt.
    pub fn succeeded(&mut self, subject: &Subject, now: Instant) {
        let quiet = self.timing.quiet;
        self.sent.retain(|_, sent| *sent + quiet > now);
        self.sent.insert(subject.clone(), now);
        self.pending.remove(subject);
        self.failures = 0;
        self.last_failed = None;
    }

    /// Records a failed attempt.
    pub fn failed(&mut self, subject: &Subject, now: Instant) -> FailureResponse {
        self.last_failed = Some(subject.clone());
        let pause = self.timing.retry_delays.get(self.failures);
        self.failures += 1;
        match pause {
            Some(pause) => {
                self.retry_at = Some(now + *pause);
                FailureResponse::RetryAfter(*pause)
            }
            None => {
                self.is_given_up = true;
                FailureResponse::GiveUp(self.pending.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn machine(name: &str) -> Subject {
        Subject::Machine(name.parse().unwrap())
    }

    fn differences(of: &[(&str, bool)]) -> BTreeMap<Subject, ConditionChange> {
        let since = None;
        of.iter()
            .map(|(name, bad)| (machine(name), ConditionChange { bad: *bad, since }))
            .collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_blocked_sink_is_retried_with_backoff_and_then_given_up() {
        let mut delivery = Delivery::new(Timing::default());
        let start = Instant::now();
        delivery.set_pending(&differences(&[("a", true), ("b", true)]), at(1));
        let (mut now, mut tries) = (start, Vec::new());
        loop {
            match delivery.next(now) {
                NextDelivery::Send(subject, since) => {
                    assert_eq!(since, at(1));
                    tries.push((subject.to_string(), (now - start).as_secs()));
                    delivery.failed(&subject, now);
                }
                NextDelivery::WaitUntil(until) => now = until,
                NextDelivery::Idle => break,
            }
            // The same again is no change.
            delivery.set_pending(&differences(&[("a", true), ("b", true)]), at(2));
        }
        let expected = [("a", 0), ("b", 10), ("a", 40), ("b", 130)];
        let expected = expected.map(|(name, second)| (name.to_owned(), second));
        assert_eq!(tries, expected, "for all machines together, each in turn");
        delivery.set_pending(&differences(&[("a", true)]), at(3));
        assert_eq!(
            delivery.next(now),
            NextDelivery::Idle,
            "a message less is no change"
        );
        delivery.set_pending(&differences(&[("a", true), ("b", true)]), at(4));
        assert_eq!(
            delivery.next(now),
            NextDelivery::Send(machine("a"), at(1)),
            "b changed twice"
        );
    }

    #[test]
    fn only_the_last_condition_is_sent() {
        let mut delivery = Delivery::new(Timing {
            retry_delays: [SECOND; 3],
            ..Timing::default()
        });
        let now = Instant::now();
        for change in 1..100 {
            delivery.set_pending(&differences(&[("a", change % 2 == 1)]), at(change));
        }
        assert_eq!(delivery.next(now), NextDelivery::Send(machine("a"), at(99)));
        assert_eq!(
            delivery.failed(&machine("a"), now),
            FailureResponse::RetryAfter(SECOND)
        );
        delivery.set_pending(&differences(&[("a", true), ("b", false)]), at(100));
        assert_eq!(
            delivery.next(now),
            NextDelivery::WaitUntil(now + SECOND),
            "a change doesn't shorten the delay"
        );
        delivery.set_pending(&differences(&[("b", false)]), at(101));
        assert_eq!(
            delivery.next(now + SECOND),
            NextDelivery::Send(machine("b"), at(100))
        );
        delivery.succeeded(&machine("b"), now);
        assert_eq!(delivery.next(now), NextDelivery::Idle);
    }

    #[test]
    fn a_flapping_machine_is_sent_at_intervals_and_with_its_last_condition() {
        let mut delivery = Delivery::new(Timing::default());
        let start = Instant::now();
        let quiet = Timing::default().quiet;
        let (mut sent, mut sent_as_bad) = (Vec::new(), false);
        // a turns each second for an hour, and stays bad; b turns once in that time.
        for second in 0..=4000_u32 {
            let bad = second % 2 == 0 || second > 3600;
            let now = start + SECOND * second;
            let of_a = (bad != sent_as_bad).then_some(("a", bad));
            let of_b = (second == 100).then_some(("b", true));
            let all: Vec<_> = of_a.into_iter().chain(of_b).collect();
            delivery.set_pending(&differences(&all), at(second.into()));
            match delivery.next(now) {
                NextDelivery::Send(subject, since) => {
                    assert!(since <= at(second.into()));
                    delivery.succeeded(&subject, now);
                    if subject == machine("a") {
                        sent_as_bad = bad;
                    }
                    sent.push((subject, second));
                }
                NextDelivery::WaitUntil(until) => assert!(until <= now + quiet),
                NextDelivery::Idle => {}
            }
        }
        let of = |name: &str| {
            let of_it = sent.iter().filter(|(subject, _)| *subject == machine(name));
            of_it.map(|(_, second)| *second).collect::<Vec<_>>()
        };
        assert_eq!(of("b"), [100], "others are sent at once");
        assert_eq!(of("a").len(), 13, "{sent:?}");
        assert!(
            of("a").windows(2).all(|pair| pair[1] - pair[0] >= 300),
            "{sent:?}"
        );
        assert!(sent_as_bad, "it stayed bad");
    }
}
