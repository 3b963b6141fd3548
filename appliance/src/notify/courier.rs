use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Subject;

/// How long to wait after each try that failed, before the next one. What a restart of a proxy or a phone call with a
/// provider does to a webhook has passed by then, or takes somebody's work.
pub const PAUSES: [Duration; 3] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(90),
];

/// Knows what is still to be told by one way, and when. It keeps no queue: for each machine there is only what is true
/// now, however long the way was blocked.
#[derive(Debug)]
pub struct Courier {
    pauses: [Duration; 3],
    waiting: BTreeMap<Subject, Waiting>,
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

/// What a courier has to do next.
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

impl Courier {
    /// With nothing to tell yet.
    pub fn new(pauses: [Duration; 3]) -> Self {
        Courier {
            pauses,
            waiting: BTreeMap::new(),
            refused: None,
            failures: 0,
            rests_until: None,
            has_given_up: false,
        }
    }

    /// Takes note of what is to be told now, instead of what was.
    pub fn take(&mut self, differences: &BTreeMap<Subject, bool>, now: Timestamp) {
        self.waiting
            .retain(|subject, waiting| differences.get(subject) == Some(&waiting.bad));
        for (subject, bad) in differences {
            if !self.waiting.contains_key(subject) {
                let waiting = Waiting {
                    bad: *bad,
                    since: now,
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
        let after = |refused| self.waiting.range((Excluded(refused), Unbounded)).next();
        let following = self.refused.as_ref().and_then(after);
        let first = following.or_else(|| self.waiting.iter().next());
        let Some((subject, waiting)) = first.filter(|_| !self.has_given_up) else {
            return Next::Nothing;
        };
        match self.rests_until.filter(|until| *until > now) {
            Some(until) => Next::Wait(until),
            None => Next::Tell(subject.clone(), waiting.since),
        }
    }

    /// It was told of this one.
    pub fn succeeded(&mut self, subject: &Subject) {
        self.waiting.remove(subject);
        self.failures = 0;
        self.refused = None;
    }

    /// It couldn't be told of this one.
    pub fn failed(&mut self, subject: &Subject, now: Instant) -> Sequel {
        self.refused = Some(subject.clone());
        let pause = self.pauses.get(self.failures);
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

    fn differences(of: &[(&str, bool)]) -> BTreeMap<Subject, bool> {
        of.iter().map(|(name, bad)| (machine(name), *bad)).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_blocked_way_is_tried_again_after_growing_pauses_and_then_given_up() {
        let mut courier = Courier::new(PAUSES);
        let start = Instant::now();
        courier.take(&differences(&[("a", true), ("b", true)]), at(1));
        let (mut now, mut tries) = (start, Vec::new());
        loop {
            match courier.next(now) {
                Next::Tell(subject, since) => {
                    assert_eq!(since, at(1));
                    tries.push((subject.to_string(), (now - start).as_secs()));
                    courier.failed(&subject, now);
                }
                Next::Wait(until) => now = until,
                Next::Nothing => break,
            }
            // That it is still so is no change.
            courier.take(&differences(&[("a", true), ("b", true)]), at(2));
        }
        let expected = [("a", 0), ("b", 10), ("a", 40), ("b", 130)];
        let expected = expected.map(|(name, second)| (name.to_owned(), second));
        assert_eq!(tries, expected, "for all machines together, each in turn");
        courier.take(&differences(&[("a", true)]), at(3));
        assert_eq!(
            courier.next(now),
            Next::Nothing,
            "one less to tell is no reason"
        );
        courier.take(&differences(&[("a", true), ("b", true)]), at(4));
        assert_eq!(
            courier.next(now),
            Next::Tell(machine("a"), at(1)),
            "b changed twice"
        );
    }

    #[test]
    fn only_what_is_true_at_last_is_told() {
        let mut courier = Courier::new([SECOND; 3]);
        let now = Instant::now();
        for change in 1..100 {
            courier.take(&differences(&[("a", change % 2 == 1)]), at(change));
        }
        assert_eq!(courier.next(now), Next::Tell(machine("a"), at(99)));
        assert_eq!(courier.failed(&machine("a"), now), Sequel::Again(SECOND));
        courier.take(&differences(&[("a", true), ("b", false)]), at(100));
        assert_eq!(
            courier.next(now),
            Next::Wait(now + SECOND),
            "a change doesn't hurry it"
        );
        courier.take(&differences(&[("b", false)]), at(101));
        assert_eq!(
            courier.next(now + SECOND),
            Next::Tell(machine("b"), at(100))
        );
        courier.succeeded(&machine("b"));
        assert_eq!(courier.next(now), Next::Nothing);
    }
}
