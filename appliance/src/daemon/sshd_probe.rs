//! Whether sshd still serves: when the appliance asks it, and when it gives up.
//!
//! sshd runs anew for every connection, so that it can break at any time, and every session ends then without having
//! authenticated. Strangers bring that about as well, so that it is only a reason to ask.

use std::time::{Duration, Instant};

/// The least time between an answer and the next question: what strangers can bring about is one more sshd in this
/// time, about 25 ms of a CPU.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait after each question in a row that wasn't answered. What a package manager or a disk does to sshd
/// for a moment has passed by then.
const BACKOFF: [Duration; 5] = [
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
    Idle(Option<Instant>),
    /// It is to be asked at this time.
    Due(Instant),
    /// It has been asked.
    Running,
}

/// What follows from a question that wasn't answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeFailure {
    /// It is asked again after this time.
    Retry(Duration),
    /// It was asked in vain this many times.
    GiveUp(usize),
}

impl SshdProbe {
    /// Of an sshd that was just proved to serve.
    pub(super) fn new() -> Self {
        SshdProbe {
            state: State::Idle(None),
            failures: 0,
        }
    }

    /// A session ended without having authenticated.
    pub(super) fn suspect(&mut self, now: Instant) {
        if let State::Idle(rested) = self.state {
            self.state = State::Due(rested.map_or(now, |rested| rested.max(now)));
        }
    }

    /// When sshd is to be asked; none when there is no reason to, or it has been asked.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(due) => Some(due),
            State::Idle(_) | State::Running => None,
        }
    }

    /// It is asked now.
    pub(super) fn start(&mut self) {
        self.state = State::Running;
    }

    /// It has answered. Says whether that ends a failure.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        self.state = State::Idle(Some(now + MIN_INTERVAL));
        std::mem::take(&mut self.failures) > 0
    }

    /// It couldn't be asked, which says nothing about it.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.state = State::Due(now + MIN_INTERVAL);
    }

    /// It hasn't answered.
    pub(super) fn failed(&mut self, now: Instant) -> ProbeFailure {
        let pause = BACKOFF.get(self.failures);
        self.failures += 1;
        match pause {
            Some(pause) => {
                self.state = State::Due(now + *pause);
                ProbeFailure::Retry(*pause)
            }
            None => ProbeFailure::GiveUp(self.failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Asks when it is due, and gives when that was.
    fn ask(probe: &mut SshdProbe) -> Instant {
        let due = probe.due().unwrap();
        probe.start();
        assert_eq!(probe.due(), None, "one question at a time");
        due
    }

    #[test]
    fn without_a_reason_nothing_is_asked() {
        assert_eq!(SshdProbe::new().due(), None);
    }

    #[test]
    fn a_crowd_of_strangers_costs_one_question_in_ten_seconds() {
        let (mut probe, start) = (SshdProbe::new(), Instant::now());
        let mut questions = 0;
        for tenth in 0..600 {
            let now = start + tenth * SECOND / 10;
            probe.suspect(now);
            if probe.due().is_some_and(|due| due <= now) {
                ask(&mut probe);
                probe.suspect(now);
                assert_eq!(probe.due(), None);
                assert!(!probe.answered(now), "nothing was wrong");
                questions += 1;
            }
        }
        assert_eq!(questions, 6);
    }

    #[test]
    fn who_never_answers_is_given_up_after_growing_pauses() {
        let (mut probe, start) = (SshdProbe::new(), Instant::now());
        probe.suspect(start);
        let mut asked = Vec::new();
        let tries = loop {
            let now = ask(&mut probe);
            asked.push((now - start).as_secs());
            match probe.failed(now) {
                ProbeFailure::Retry(pause) => assert_eq!(probe.due(), Some(now + pause)),
                ProbeFailure::GiveUp(tries) => break tries,
            }
            // That others fail as well changes nothing.
            probe.suspect(now);
        };
        assert_eq!(asked, [0, 1, 3, 7, 15, 31]);
        assert_eq!(tries, 6);
    }

    #[test]
    fn an_answer_ends_the_suspicion() {
        let (mut probe, start) = (SshdProbe::new(), Instant::now());
        for round in 0..10 {
            let start = start + round * 60 * SECOND;
            probe.suspect(start);
            for _ in 0..BACKOFF.len() {
                let now = ask(&mut probe);
                assert!(matches!(probe.failed(now), ProbeFailure::Retry(_)));
            }
            let now = ask(&mut probe);
            assert!(probe.answered(now), "a failure is over");
            assert_eq!(probe.due(), None);
        }
    }

    #[test]
    fn a_shortage_is_no_failure() {
        let (mut probe, start) = (SshdProbe::new(), Instant::now());
        probe.suspect(start);
        for _ in 0..100 {
            let now = ask(&mut probe);
            probe.postpone(now);
            assert_eq!(probe.due(), Some(now + MIN_INTERVAL));
        }
        let now = ask(&mut probe);
        assert_eq!(probe.failed(now), ProbeFailure::Retry(SECOND));
    }
}
