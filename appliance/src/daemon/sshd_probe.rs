//! Whether sshd still serves: when the appliance asks it, and when it gives up.
//!
//! sshd runs anew for every connection, so that it can break at any time, and every session ends then without having
//! authenticated. Strangers bring that about as well, so that it is only a reason to ask.

use std::time::{Duration, Instant};

/// The least time between an answer and the next question: what strangers can bring about is one more sshd in this
/// time, about 25 ms of a CPU.
const REST: Duration = Duration::from_secs(10);
/// How long to wait after each question in a row that wasn't answered. What a package manager or a disk does to sshd
/// for a moment has passed by then.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// What is known of sshd.
#[derive(Debug)]
pub(super) struct SshdProbe {
    state: State,
    /// Questions in a row that weren't answered.
    failures: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It was all right, as far as is known; from this time on it may be asked again.
    Calm(Option<Instant>),
    /// It is to be asked at this time.
    Due(Instant),
    /// It has been asked.
    Asked,
}

/// What follows from a question that wasn't answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It is asked again after this time.
    Again(Duration),
    /// It was asked in vain this many times.
    GiveUp(usize),
}

impl SshdProbe {
    /// Of an sshd that was just proved to serve.
    pub(super) fn new() -> Self {
        SshdProbe {
            state: State::Calm(None),
            failures: 0,
        }
    }

    /// A session ended without having authenticated.
    pub(super) fn suspect(&mut self, now: Instant) {
        if let State::Calm(rested) = self.state {
            self.state = State::Due(rested.map_or(now, |rested| rested.max(now)));
        }
    }

    /// When sshd is to be asked; none when there is no reason to, or it has been asked.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(due) => Some(due),
            State::Calm(_) | State::Asked => None,
        }
    }

    /// It is asked now.
    pub(super) fn ask(&mut self) {
        self.state = State::Asked;
    }

    /// It has answered. Says whether that ends a failure.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        self.state = State::Calm(Some(now + REST));
        std::mem::take(&mut self.failures) > 0
    }

    /// It couldn't be asked, which says nothing about it.
    pub(super) fn unasked(&mut self, now: Instant) {
        self.state = State::Due(now + REST);
    }

    /// It hasn't answered.
    pub(super) fn failed(&mut self, now: Instant) -> Consequence {
        let pause = PAUSES.get(self.failures);
        self.failures += 1;
        match pause {
            Some(pause) => {
                self.state = State::Due(now + *pause);
                Consequence::Again(*pause)
            }
            None => Consequence::GiveUp(self.failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Asks when it is due, and gives when that was.
    fn ask(pulse: &mut SshdProbe) -> Instant {
        let due = pulse.due().unwrap();
        pulse.ask();
        assert_eq!(pulse.due(), None, "one question at a time");
        due
    }

    #[test]
    fn without_a_reason_nothing_is_asked() {
        assert_eq!(SshdProbe::new().due(), None);
    }

    #[test]
    fn a_crowd_of_strangers_costs_one_question_in_ten_seconds() {
        let (mut pulse, start) = (SshdProbe::new(), Instant::now());
        let mut questions = 0;
        for tenth in 0..600 {
            let now = start + tenth * SECOND / 10;
            pulse.suspect(now);
            if pulse.due().is_some_and(|due| due <= now) {
                ask(&mut pulse);
                pulse.suspect(now);
                assert_eq!(pulse.due(), None);
                assert!(!pulse.answered(now), "nothing was wrong");
                questions += 1;
            }
        }
        assert_eq!(questions, 6);
    }

    #[test]
    fn who_never_answers_is_given_up_after_growing_pauses() {
        let (mut pulse, start) = (SshdProbe::new(), Instant::now());
        pulse.suspect(start);
        let mut asked = Vec::new();
        let tries = loop {
            let now = ask(&mut pulse);
            asked.push((now - start).as_secs());
            match pulse.failed(now) {
                Consequence::Again(pause) => assert_eq!(pulse.due(), Some(now + pause)),
                Consequence::GiveUp(tries) => break tries,
            }
            // That others fail as well changes nothing.
            pulse.suspect(now);
        };
        assert_eq!(asked, [0, 1, 3, 7, 15, 31]);
        assert_eq!(tries, 6);
    }

    #[test]
    fn an_answer_ends_the_suspicion() {
        let (mut pulse, start) = (SshdProbe::new(), Instant::now());
        for round in 0..10 {
            let start = start + round * 60 * SECOND;
            pulse.suspect(start);
            for _ in 0..PAUSES.len() {
                let now = ask(&mut pulse);
                assert!(matches!(pulse.failed(now), Consequence::Again(_)));
            }
            let now = ask(&mut pulse);
            assert!(pulse.answered(now), "a failure is over");
            assert_eq!(pulse.due(), None);
        }
    }

    #[test]
    fn a_shortage_is_no_failure() {
        let (mut pulse, start) = (SshdProbe::new(), Instant::now());
        pulse.suspect(start);
        for _ in 0..100 {
            let now = ask(&mut pulse);
            pulse.unasked(now);
            assert_eq!(pulse.due(), Some(now + REST));
        }
        let now = ask(&mut pulse);
        assert_eq!(pulse.failed(now), Consequence::Again(SECOND));
    }
}
