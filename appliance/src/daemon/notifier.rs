//! The thread that notifies: it looks at the fleet when something happened, and once a minute for who is silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::problems::Problems;
use crate::fleet::{Fleet, Notify};
use crate::notify::{
    self, Condition, Delivery, Failure, FailureResponse, LastSentFile, Message, NextDelivery,
    Subject, Timing,
};
use crate::status::Status;
use crate::store::atomic_file;
use crate::store::paths::{Runtime, State};

/// After how long it looks anyway: silence is nothing that happens.
const INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two looks.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// How much longer than a look the rest after it is, so that looking never takes more than a twentieth of a CPU, however
/// large the fleet is.
const PAUSE_FACTOR: u32 = 20;
/// For how long after the start nobody counts as silent: after the appliance was away, machines come again within the
/// time between two polls.
const SILENCE_GRACE: Duration = Duration::from_secs(60 * 60);

/// Notifies the webhook that `fleet.toml` names. Nothing waits for it.
pub(super) struct Notifier {
    state: State,
    runtime: Runtime,
    problems: Arc<Problems>,
    timing: Timing,
    pause: Duration,
    /// From when on it counts who is silent.
    silence_counts_from: Instant,
    notified: LastSentFile,
    settings: Option<Notify>,
    delivery: Delivery,
    conditions: BTreeMap<Subject, Option<Condition>>,
    /// What is wrong with its own files, which the log has once.
    last_error: Option<String>,
}

impl Notifier {
    pub(super) fn new(state: State, runtime: Runtime, problems: Arc<Problems>) -> Self {
        let notified = atomic_file::read_json(&state.notified()).unwrap_or_else(|error| {
            let file = state.notified().display().to_string();
            warn!(
                "what was notified before, {file}, can't be read, and is notified again: {error}"
            );
            None
        });
        Notifier {
            state,
            runtime,
            problems,
            timing: Timing::default(),
            delivery: Delivery::new(Timing::default()),
            pause: MIN_PAUSE,
            silence_counts_from: Instant::now() + SILENCE_GRACE,
            notified: notified.unwrap_or_default(),
            settings: None,
            conditions: BTreeMap::new(),
            last_error: None,
        }
    }

    /// Works until nobody can rouse it any more. It must be known by now what is wrong with the fleet, or what was bad
    /// before a restart would seem good.
    pub(super) fn run(mut self, wakeups: &Receiver<()>) {
        loop {
            // What comes from now on may not be seen by this look.
            while wakeups.try_recv().is_ok() {}
            let began = Instant::now();
            let read = self.read_status();
            self.log_failure(read);
            let pause = (began.elapsed() * PAUSE_FACTOR).max(self.pause);
            let next_read = Instant::now() + pause;
            let due = self.deliver(next_read);
            thread::sleep(next_read.saturating_duration_since(Instant::now()));
            let wait = due.map_or(INTERVAL, |due| {
                due.saturating_duration_since(Instant::now())
            });
            match wakeups.recv_timeout(wait.min(INTERVAL)) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks at the settings, and at the fleet if somebody is to be notified of it.
    fn read_status(&mut self) -> anyhow::Result<()> {
        let fleet: Option<Fleet> = atomic_file::read_json(&self.state.fleet())?;
        let settings = fleet.and_then(|fleet| fleet.notify);
        if self.settings != settings {
            self.delivery = Delivery::new(self.timing);
            self.settings = settings;
        }
        if self.settings.is_none() {
            return Ok(());
        }
        let (now, began) = (Timestamp::now(), Instant::now());
        let status = Status::read(&self.state, &self.runtime, now)?;
        self.conditions = Condition::of_all(&status, began < self.silence_counts_from);
        let last_sent = &mut self.notified.webhook;
        let has_forgotten = last_sent.forget_removed(&self.conditions);
        self.delivery
            .set_pending(&last_sent.differences(&self.conditions), now);
        if has_forgotten {
            self.save()?;
        }
        Ok(())
    }

    /// Tells what is to be told, until something else may be true. Gives when there is more to do.
    fn deliver(&mut self, until: Instant) -> Option<Instant> {
        loop {
            match self.delivery.next(Instant::now()) {
                NextDelivery::Idle => return None,
                NextDelivery::WaitUntil(due) => return Some(due),
                NextDelivery::Send(subject, since) => {
                    let told = self.tell(&subject, since);
                    self.log_failure(told);
                }
            }
            if Instant::now() >= until {
                return Some(until);
            }
        }
    }

    /// Tells of one machine, or of the fleet.
    fn tell(&mut self, subject: &Subject, since: Timestamp) -> anyhow::Result<()> {
        let (Some(Some(condition)), Some(settings)) =
            (self.conditions.get(subject), &self.settings)
        else {
            return Ok(());
        };
        let message = Message::new(subject, condition, since);
        let told = notify::post(settings, &message);
        let last_sent = &mut self.notified.webhook;
        let counters = &self.problems.counters;
        match told {
            Ok(_) => {
                info!("notified by webhook {}: {}", settings.webhook, message.text);
                counters.notifications.add(1);
                last_sent.record(subject, condition, Timestamp::now());
                self.delivery.succeeded(subject, Instant::now());
            }
            Err(error) => {
                counters.failed_notifications.add(1);
                last_sent.failure = Some(Failure {
                    at: Timestamp::now(),
                    error: format!("{error:#}"),
                });
                match self.delivery.failed(subject, Instant::now()) {
                    FailureResponse::RetryAfter(pause) => warn!(
                        "a notification failed: {error:#}; it is tried again in {} s",
                        pause.as_secs()
                    ),
                    FailureResponse::GiveUp(untold) => error!(
                        "notifying is given up until something changes, with {untold} to tell: {error:#}; try it with \
                         `bento notify --test`"
                    ),
                }
            }
        }
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        Ok(atomic_file::write_json(
            &self.state.notified(),
            &self.notified,
        )?)
    }

    /// Logs what stands in its way, once.
    fn log_failure(&mut self, outcome: anyhow::Result<()>) {
        let last_error = outcome.err().map(|error| format!("{error:#}"));
        if let Some(last_error) = last_error
            .as_ref()
            .filter(|_| last_error != self.last_error)
        {
            let state = self.state.root().display();
            warn!(
                "notifications may be missing, or come twice after a restart, because of {state}: {last_error}"
            );
        }
        self.last_error = last_error;
    }
}

#[cfg(test)]
mod tests;
