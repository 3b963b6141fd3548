use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{ConditionChange, Subject};

/// How fast it goes.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long to wait after each try that failed, before the next one.
    pub retry_delays: [Duration; 3],
    /// How long nothing more is told of somebody of whom something was told.
    pub quiet: Duration,
}

impl Default for Timing {
    /// What a restart of a proxy or a phone call with a provider does to a webhook has passed after these pauses, or takes
    /// somebody's work. A machine that turns bad and good all the time, be it on purpose, costs a dozen messages an hour.
    fn default() -> Self {
        Timing {
            retry_delays: [10, 30, 90].map(Duration::from_secs),
            quiet: Duration::from_secs(5 * 60),
        }
    }
}

/// Knows what is still to be told by one way, and when. It keeps no queue: for each machine there is only what is true
/// now, however long the way was blocked.
#[derive(Debug)]
pub struct Delivery {
    timing: Timing,
    pending: BTreeMap<Subject, Pending>,
    /// When something was told of whom, as long as that keeps them quiet.
    sent: BTreeMap<Subject, Instant>,
    /// Of whom the last try failed: then it is the next one's turn, since it may be just that message which is refused.
    last_failed: Option<Subject>,
    /// Tries in a row that failed: whoever is told of, it is the way that is blocked.
    failures: usize,
    retry_at: Option<Instant>,
    /// Nothing is tried before something changes.
    is_given_up: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    bad: bool,
    since: Timestamp,
}

/// What a delivery has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextDelivery {
    /// Nothing before something changes.
    Idle,
    /// Nothing before this time.
    WaitUntil(Instant),
    /// To tell of this one, who changed at this time.
    Send(Subject, Timestamp),
}

/// What follows from a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureResponse {
    /// It is tried again after this time.
    RetryAfter(Duration),
    /// It isn't tried again before something changes; so many changes remain untold.
    GiveUp(usize),
}

impl Delivery {
    /// With nothing to tell yet.
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

    /// Takes note of what is to be told now, instead of what was.
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

    /// What is to be done now.
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

    /// Until when nothing more is told of somebody.
    fn quiet_until(&self, subject: &Subject) -> Option<Instant> {
        self.sent.get(subject).map(|sent| *sent + self.timing.quiet)
    }

    /// It was told of this one.
    pub fn succeeded(&mut self, subject: &Subject, now: Instant) {
        let quiet = self.timing.quiet;
        self.sent.retain(|_, sent| *sent + quiet > now);
        self.sent.insert(subject.clone(), now);
        self.pending.remove(subject);
        self.failures = 0;
        self.last_failed = None;
    }

    /// It couldn't be told of this one.
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
    fn a_blocked_way_is_tried_again_after_growing_pauses_and_then_given_up() {
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
            // That it is still so is no change.
            delivery.set_pending(&differences(&[("a", true), ("b", true)]), at(2));
        }
        let expected = [("a", 0), ("b", 10), ("a", 40), ("b", 130)];
        let expected = expected.map(|(name, second)| (name.to_owned(), second));
        assert_eq!(tries, expected, "for all machines together, each in turn");
        delivery.set_pending(&differences(&[("a", true)]), at(3));
        assert_eq!(
            delivery.next(now),
            NextDelivery::Idle,
            "one less to tell is no reason"
        );
        delivery.set_pending(&differences(&[("a", true), ("b", true)]), at(4));
        assert_eq!(
            delivery.next(now),
            NextDelivery::Send(machine("a"), at(1)),
            "b changed twice"
        );
    }

    #[test]
    fn only_what_is_true_at_last_is_told() {
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
            "a change doesn't hurry it"
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
    fn a_machine_that_turns_all_the_time_is_told_of_at_intervals_and_as_it_is_at_last() {
        let mut delivery = Delivery::new(Timing::default());
        let start = Instant::now();
        let quiet = Timing::default().quiet;
        let (mut sent, mut sent_as_bad) = (Vec::new(), false);
        // It turns each second for an hour, and stays bad; b turns once meanwhile.
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
        assert_eq!(of("b"), [100], "others are sent of at once");
        assert_eq!(of("a").len(), 13, "{sent:?}");
        assert!(
            of("a").windows(2).all(|pair| pair[1] - pair[0] >= 300),
            "{sent:?}"
        );
        assert!(sent_as_bad, "it stayed bad");
    }
}
