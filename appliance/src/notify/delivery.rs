use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Difference, Subject};

/// How fast it goes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long to wait after each try that failed, before the next one.
    pub pauses: [Duration; 3],
    /// How long nothing more is told of somebody of whom something was told.
    pub quiet: Duration,
}

impl Default for Pace {
    /// What a restart of a proxy or a phone call with a provider does to a webhook has passed after these pauses, or takes
    /// somebody's work. A machine that turns bad and good all the time, be it on purpose, costs a dozen messages an hour.
    fn default() -> Self {
        Pace {
            pauses: [10, 30, 90].map(Duration::from_secs),
            quiet: Duration::from_secs(5 * 60),
        }
    }
}

/// Knows what is still to be told by one way, and when. It keeps no queue: for each machine there is only what is true
/// now, however long the way was blocked.
#[derive(Debug)]
pub struct Delivery {
    pace: Pace,
    waiting: BTreeMap<Subject, Waiting>,
    /// When something was told of whom, as long as that keeps them quiet.
    told: BTreeMap<Subject, Instant>,
    /// Of whom the last try failed: then it is the next one's turn, since it may be just that message which is refused.
    refused: Option<Subject>,
    /// Tries in a row that failed: whoever is told of, it is the way that is blocked.
    failures: usize,
    rests_until: Option<Instant>,
    /// Nothing is tried before something changes.
    has_given_up: bool,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    bad: bool,
    since: Timestamp,
}

/// What a delivery has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing before something changes.
    Nothing,
    /// Nothing before this time.
    Wait(Instant),
    /// To tell of this one, who changed at this time.
    Tell(Subject, Timestamp),
}

/// What follows from a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequel {
    /// It is tried again after this time.
    Again(Duration),
    /// It isn't tried again before something changes; so many changes remain untold.
    GivenUp(usize),
}

impl Delivery {
    /// With nothing to tell yet.
    pub fn new(pace: Pace) -> Self {
        Delivery {
            pace,
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
            refused: None,
            failures: 0,
            rests_until: None,
            has_given_up: false,
        }
    }

    /// Takes note of what is to be told now, instead of what was.
    pub fn take(&mut self, differences: &BTreeMap<Subject, Difference>, now: Timestamp) {
        self.waiting.retain(|subject, waiting| {
            let difference = differences.get(subject);
            difference.is_some_and(|difference| difference.bad == waiting.bad)
        });
        for (subject, difference) in differences {
            if !self.waiting.contains_key(subject) {
                let waiting = Waiting {
                    bad: difference.bad,
                    since: difference.since.unwrap_or(now),
                };
                self.waiting.insert(subject.clone(), waiting);
                if std::mem::take(&mut self.has_given_up) {
                    self.failures = 0;
                }
            }
        }
    }

    /// What is to be done now.
    pub fn next(&self, now: Instant) -> Next {
        if self.has_given_up {
            return Next::Nothing;
        }
        let later = |until: &Instant| *until > now;
        let quiet = |subject| self.quiet_until(subject).filter(later);
        let after = |refused| self.waiting.range((Excluded(refused), Unbounded));
        let following = self.refused.as_ref().map(after).into_iter().flatten();
        let mut in_turn = following.chain(&self.waiting);
        let Some((subject, waiting)) = in_turn.find(|(subject, _)| quiet(subject).is_none()) else {
            let first = self.waiting.keys().filter_map(quiet).min();
            return first.map_or(Next::Nothing, Next::Wait);
        };
        match self.rests_until.filter(later) {
            Some(until) => Next::Wait(until),
            None => Next::Tell(subject.clone(), waiting.since),
        }
    }

    /// Until when nothing more is told of somebody.
    fn quiet_until(&self, subject: &Subject) -> Option<Instant> {
        self.told.get(subject).map(|told| *told + self.pace.quiet)
    }

    /// It was told of this one.
    pub fn succeeded(&mut self, subject: &Subject, now: Instant) {
        let quiet = self.pace.quiet;
        self.told.retain(|_, told| *told + quiet > now);
        self.told.insert(subject.clone(), now);
        self.waiting.remove(subject);
        self.failures = 0;
        self.refused = None;
    }

    /// It couldn't be told of this one.
    pub fn failed(&mut self, subject: &Subject, now: Instant) -> Sequel {
        self.refused = Some(subject.clone());
        let pause = self.pace.pauses.get(self.failures);
        self.failures += 1;
        match pause {
            Some(pause) => {
                self.rests_until = Some(now + *pause);
                Sequel::Again(*pause)
            }
            None => {
                self.has_given_up = true;
                Sequel::GivenUp(self.waiting.len())
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

    fn differences(of: &[(&str, bool)]) -> BTreeMap<Subject, Difference> {
        let since = None;
        of.iter()
            .map(|(name, bad)| (machine(name), Difference { bad: *bad, since }))
            .collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_blocked_way_is_tried_again_after_growing_pauses_and_then_given_up() {
        let mut delivery = Delivery::new(Pace::default());
        let start = Instant::now();
        delivery.take(&differences(&[("a", true), ("b", true)]), at(1));
        let (mut now, mut tries) = (start, Vec::new());
        loop {
            match delivery.next(now) {
                Next::Tell(subject, since) => {
                    assert_eq!(since, at(1));
                    tries.push((subject.to_string(), (now - start).as_secs()));
                    delivery.failed(&subject, now);
                }
                Next::Wait(until) => now = until,
                Next::Nothing => break,
            }
            // That it is still so is no change.
            delivery.take(&differences(&[("a", true), ("b", true)]), at(2));
        }
        let expected = [("a", 0), ("b", 10), ("a", 40), ("b", 130)];
        let expected = expected.map(|(name, second)| (name.to_owned(), second));
        assert_eq!(tries, expected, "for all machines together, each in turn");
        delivery.take(&differences(&[("a", true)]), at(3));
        assert_eq!(
            delivery.next(now),
            Next::Nothing,
            "one less to tell is no reason"
        );
        delivery.take(&differences(&[("a", true), ("b", true)]), at(4));
        assert_eq!(
            delivery.next(now),
            Next::Tell(machine("a"), at(1)),
            "b changed twice"
        );
    }

    #[test]
    fn only_what_is_true_at_last_is_told() {
        let mut delivery = Delivery::new(Pace {
            pauses: [SECOND; 3],
            ..Pace::default()
        });
        let now = Instant::now();
        for change in 1..100 {
            delivery.take(&differences(&[("a", change % 2 == 1)]), at(change));
        }
        assert_eq!(delivery.next(now), Next::Tell(machine("a"), at(99)));
        assert_eq!(delivery.failed(&machine("a"), now), Sequel::Again(SECOND));
        delivery.take(&differences(&[("a", true), ("b", false)]), at(100));
        assert_eq!(
            delivery.next(now),
            Next::Wait(now + SECOND),
            "a change doesn't hurry it"
        );
        delivery.take(&differences(&[("b", false)]), at(101));
        assert_eq!(
            delivery.next(now + SECOND),
            Next::Tell(machine("b"), at(100))
        );
        delivery.succeeded(&machine("b"), now);
        assert_eq!(delivery.next(now), Next::Nothing);
    }

    #[test]
    fn a_machine_that_turns_all_the_time_is_told_of_at_intervals_and_as_it_is_at_last() {
        let mut delivery = Delivery::new(Pace::default());
        let start = Instant::now();
        let quiet = Pace::default().quiet;
        let (mut told, mut is_told_bad) = (Vec::new(), false);
        // It turns each second for an hour, and stays bad; b turns once meanwhile.
        for second in 0..=4000_u32 {
            let bad = second % 2 == 0 || second > 3600;
            let now = start + SECOND * second;
            let of_a = (bad != is_told_bad).then_some(("a", bad));
            let of_b = (second == 100).then_some(("b", true));
            let all: Vec<_> = of_a.into_iter().chain(of_b).collect();
            delivery.take(&differences(&all), at(second.into()));
            match delivery.next(now) {
                Next::Tell(subject, since) => {
                    assert!(since <= at(second.into()));
                    delivery.succeeded(&subject, now);
                    if subject == machine("a") {
                        is_told_bad = bad;
                    }
                    told.push((subject, second));
                }
                Next::Wait(until) => assert!(until <= now + quiet),
                Next::Nothing => {}
            }
        }
        let of = |name: &str| {
            let of_it = told.iter().filter(|(subject, _)| *subject == machine(name));
            of_it.map(|(_, second)| *second).collect::<Vec<_>>()
        };
        assert_eq!(of("b"), [100], "others are told of at once");
        assert_eq!(of("a").len(), 13, "{told:?}");
        assert!(
            of("a").windows(2).all(|pair| pair[1] - pair[0] >= 300),
            "{told:?}"
        );
        assert!(is_told_bad, "it stayed bad");
    }
}
