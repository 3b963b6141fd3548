//! The notifier: reads the status after a change, and once a minute for silent machines, and sends messages.

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

/// The interval of reads without a change: a machine becomes silent without an event.
const INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two reads of the status.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a read, in times of its duration: reading takes a twentieth of a CPU at most, for a fleet of any size.
const PAUSE_FACTOR: u32 = 20;
/// The time after the start in which no machine counts as silent: all of them connect again within the time between two
/// polls.
const SILENCE_GRACE: Duration = Duration::from_secs(60 * 60);

/// Notifies the webhook of `fleet.toml`. Nothing waits for it.
pub(super) struct Notifier {
    state: State,
    runtime: Runtime,
    problems: Arc<Problems>,
    timing: Timing,
    pause: Duration,
    /// The end of [`SILENCE_GRACE`].
    silence_counts_from: Instant,
    notified: LastSentFile,
    settings: Option<Notify>,
    delivery: Delivery,
    conditions: BTreeMap<Subject, Option<Condition>>,
    /// The last error of its own files, which is logged once.
    last_error: Option<String>,
}

impl Notifier {
    pub(super) fn new(state: State, runtime: Runtime, problems: Arc<Problems>) -> Self {
        let notified = atomic_file::read_json(&state.notified()).unwrap_or_else(|error| {
            let file = state.notified().display().to_string();
            warn!("earlier notifications, {file}, can't be read, and are sent again: {error}");
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

    /// Runs until it can no longer be woken. Call it when the problems of the fleet are known: otherwise a condition that was
    /// bad before a restart would seem good.
    pub(super) fn run(mut self, wakeups: &Receiver<()>) {
        loop {
            // A change from now on may come too late for this read.
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

    /// Reads the settings, and, if there is a webhook, the conditions of all machines.
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

    /// Sends pending messages until the next read of the status. Returns the time at which there is more to send.
    fn deliver(&mut self, until: Instant) -> Option<Instant> {
        loop {
            match self.delivery.next(Instant::now()) {
                NextDelivery::Idle => return None,
                NextDelivery::WaitUntil(due) => return Some(due),
                NextDelivery::Send(subject, since) => {
                    let sent = self.send(&subject, since);
                    self.log_failure(sent);
                }
            }
            if Instant::now() >= until {
                return Some(until);
            }
        }
    }

    /// Sends a message about one machine, or about the fleet.
    fn send(&mut self, subject: &Subject, since: Timestamp) -> anyhow::Result<()> {
        let (Some(Some(condition)), Some(settings)) =
            (self.conditions.get(subject), &self.settings)
        else {
            return Ok(());
        };
        let message = Message::new(subject, condition, since);
        let sent = notify::post(settings, &message);
        let last_sent = &mut self.notified.webhook;
        let counters = &self.problems.counters;
        match sent {
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
                    FailureResponse::GiveUp(pending) => error!(
                        "notifications stop until something changes, with {pending} pending: {error:#}; try it with \
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

    /// Logs an error of its own files, once.
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
