//! The probe of sshd: when it runs, and when the appliance gives up.
//!
//! Each connection has a new sshd, so it can break at any time. Then every session ends without a login. So do those of
//! strangers; therefore such an end is only a reason for a probe.

use std::time::{Duration, Instant};

/// The least time between two probes: strangers can cause one more sshd in this time, about 25 ms of a CPU.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// The delay after each failure in a row. A moment's trouble, by a package manager or a disk, is over by the last one.
const BACKOFF: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// The schedule of probes.
#[derive(Debug)]
pub(super) struct SshdProbe {
    state: State,
    /// Failures in a row.
    failures: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Without a reason to probe; not before this time.
    Idle(Option<Instant>),
    /// To be probed at this time.
    Due(Instant),
    /// Being probed.
    Running,
}

/// The consequence of a failed probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeFailure {
    /// Probe again after this time.
    Retry(Duration),
    /// Give up after this many attempts.
    GiveUp(usize),
}

impl SshdProbe {
    /// Begins with an sshd that just served.
    pub(super) fn new() -> Self {
        SshdProbe {
            state: State::Idle(None),
            failures: 0,
        }
    }

    /// Records that a session ended without a login.
    pub(super) fn suspect(&mut self, now: Instant) {
        if let State::Idle(rested) = self.state {
            self.state = State::Due(rested.map_or(now, |rested| rested.max(now)));
        }
    }

    /// The time of the next probe; none without a reason, or while one runs.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(due) => Some(due),
            State::Idle(_) | State::Running => None,
        }
    }

    /// Records that a probe starts.
    pub(super) fn start(&mut self) {
        self.state = State::Running;
    }

    /// Records a success. True if that ends a failure.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        self.state = State::Idle(Some(now + MIN_INTERVAL));
        std::mem::take(&mut self.failures) > 0
    }

    /// Postpones a probe that couldn't run, for want of processes or memory.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.state = State::Due(now + MIN_INTERVAL);
    }

    /// Records a failure.
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

    /// Starts the next probe, and returns its time.
    fn start_next(probe: &mut SshdProbe) -> Instant {
        let due = probe.due().unwrap();
        probe.start();
        assert_eq!(probe.due(), None, "one probe at a time");
        due
    }

    #[test]
    fn without_a_reason_there_is_no_probe() {
        assert_eq!(SshdProbe::new().due(), None);
    }

    #[test]
    fn a_crowd_of_strangers_costs_one_probe_in_ten_seconds() {
        let (mut probe, start) = (SshdProbe::new(), Instant::now());
        let mut probes = 0;
        for tenth in 0..600 {
            let now = start + tenth * SECOND / 10;
            probe.suspect(now);
            if probe.due().is_some_and(|due| due <= now) {
                start_next(&mut probe);
                probe.suspect(now);
                assert_eq!(probe.due(), None);
                assert!(!probe.answered(now), "nothing was wrong");
                probes += 1;
            }
        }
        assert_eq!(probes, 6);
    }

    #[test]
    fn an_sshd_that_never_answers_is_given_up_with_backoff() {
        let (mut probe, start) = (SshdProbe::new(), Instant::now());
        probe.suspect(start);
        let mut started = Vec::new();
        let tries = loop {
            let now = start_next(&mut probe);
            started.push((now - start).as_secs());
            match probe.failed(now) {
                ProbeFailure::Retry(pause) => assert_eq!(probe.due(), Some(now + pause)),
                ProbeFailure::GiveUp(tries) => break tries,
            }
            // The failures of others change nothing.
            probe.suspect(now);
        };
        assert_eq!(started, [0, 1, 3, 7, 15, 31]);
        assert_eq!(tries, 6);
    }

    #[test]
    fn a_success_ends_the_failures() {
        let (mut probe, start) = (SshdProbe::new(), Instant::now());
        for repetition in 0..10 {
            let start = start + repetition * 60 * SECOND;
            probe.suspect(start);
            for _ in 0..BACKOFF.len() {
                let now = start_next(&mut probe);
                assert!(matches!(probe.failed(now), ProbeFailure::Retry(_)));
            }
            let now = start_next(&mut probe);
            assert!(probe.answered(now), "a failure is over");
            assert_eq!(probe.due(), None);
        }
    }

    #[test]
    fn a_shortage_is_no_failure() {
        let (mut probe, start) = (SshdProbe::new(), Instant::now());
        probe.suspect(start);
        for _ in 0..100 {
            let now = start_next(&mut probe);
            probe.postpone(now);
            assert_eq!(probe.due(), Some(now + MIN_INTERVAL));
        }
        let now = start_next(&mut probe);
        assert_eq!(probe.failed(now), ProbeFailure::Retry(SECOND));
    }
}
